/* model_file_head.c - reading JSON where memory may run out.
 *
 * Jansson's scanner drops characters for which its buffer cannot grow and goes on: a text then means something else, and
 * a number ends the process by an assertion. A library may not put allocators of its own in the place of the program's,
 * as util/jsonx.c does. So the text is read as the second item of an array whose first is a string longer than anything
 * in the text: when that string is whole, the buffer was large enough for all that followed.
 */
#include "model_file_head.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "status.h"

/* The buffer grows at 16, 32, 64, ... bytes; the long string must not end where it does, or its quote would be what is
 * dropped when one allocation fails. */
enum {
    PAD_STEP = 64,
    PAD_BESIDE = 20
};

/* Length of the longest string or number of a JSON text, from one border to the next. */
static size_t longest_token(const char *text, size_t n)
{
    size_t longest = 0, begin = 0;
    bool in_string = false;

    for (size_t i = 0; i < n; i++) {
        bool is_border = text[i] == '"' || (!in_string && strchr(",:[]{} \t\r\n", text[i]) != NULL);
        if (in_string && text[i] == '\\')
            i++;
        in_string = in_string != (is_border && text[i] == '"');
        if (is_border || i + 1 >= n) {
            longest = i - begin > longest ? i - begin : longest;
            begin = i;
        }
    }
    return longest;
}

json_t *model_file_head_load(const char *head, size_t n)
{
    size_t pad = amx_round_up(longest_token(head, n) + 1, PAD_STEP) + PAD_BESIDE, total = pad + n + 5;
    char *text = malloc(total);

    if (text == NULL)
        return NULL;
    memset(text, 'x', pad + 3);
    text[0] = '[';
    text[1] = text[pad + 2] = '"';
    text[pad + 3] = ',';
    memcpy(text + pad + 4, head, n);
    text[total - 1] = ']';
    json_t *both = json_loadb(text, total, JSON_REJECT_DUPLICATES, NULL);
    free(text);
    if (both == NULL)
        return NULL;
    bool is_whole = json_string_length(json_array_get(both, 0)) == pad;
    json_t *found = is_whole && json_array_size(both) == 2 ? json_incref(json_array_get(both, 1)) : NULL;
    if (!is_whole)
        errno = ENOMEM;
    json_decref(both);
    return found;
}
