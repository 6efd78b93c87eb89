/* face_off_text.c - the table of a face-off as CSV, Markdown and text for a terminal, all from its JSON.
 *
 * Markdown and text show the same cells, rounded for reading (accuracies in per cent with one decimal and their
 * deviation); CSV has every figure as it is in the JSON, a column each, empty where nothing was measured. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "util/csv_rows.h"
#include "util/jsonx.h"
#include "util/numbers.h"
#include "work/face_off/face_off.h"

enum {
    MAX_COLUMNS = 12,
    MAX_ROWS = 64,
    CELL = 32
};

/* ---- cells ------------------------------------------------------------------------------------------------------- */

struct grid {
    size_t n_columns, n_rows;
    const char *headers[MAX_COLUMNS];
    char cells[MAX_ROWS][MAX_COLUMNS][CELL];
};

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text != NULL ? text : "";
}

/* "73.5 +-0.7"; "-" for null. */
static void put_spread(char *cell, const json_t *spread, double scale, int decimals, bool several)
{
    const json_t *mean = json_object_get(spread, "mean");

    if (mean == NULL)
        (void)snprintf(cell, CELL, "-");
    else if (several)
        (void)snprintf(cell, CELL, "%.*f +-%.*f", decimals, json_number_value(mean) * scale, decimals,
                       json_number_value(json_object_get(spread, "std")) * scale);
    else
        (void)snprintf(cell, CELL, "%.*f", decimals, json_number_value(mean) * scale);
}

struct column {
    const char *header, *key;
    double scale;
    int decimals;
};
static const struct column OF_GOLD[] = {{"accuracy %", "accuracy", 100, 1},
                                        {"balanced %", "balanced_accuracy", 100, 1},
                                        {"log loss", "log_loss", 1, 3},
                                        {"Brier", "brier", 1, 3},
                                        {"calibration error", "calibration_error", 1, 3},
                                        {"label AUROC %", "annotator_auroc", 100, 1}};
static const struct column OF_CROWD[] = {{"held-out log-likelihood", "held_out_log_likelihood", 1, 4},
                                         {"risk rank", "risk_rank", 1, 2}};

/* Whether any row has the figure. */
static bool is_measured(const json_t *rows, const char *key)
{
    for (size_t i = 0; i < json_array_size(rows); i++) {
        if (!json_is_null(json_object_get(json_array_get(rows, i), key)))
            return true;
    }
    return false;
}

static void put_column(struct grid *grid, const json_t *rows, const struct column *column, bool several)
{
    if (!is_measured(rows, column->key))
        return;
    grid->headers[grid->n_columns] = column->header;
    for (size_t i = 0; i < grid->n_rows; i++) {
        const json_t *row = json_array_get(rows, i);
        char *cell = grid->cells[i][grid->n_columns];

        /* A method that failed in some fits shows what the others gave in the JSON, not here. */
        if (strcmp(text_of(row, "state"), "failed") == 0)
            (void)snprintf(cell, CELL, "%s", grid->n_columns == 2 ? "failed" : "-");
        else
            put_spread(cell, json_object_get(row, column->key), column->scale, column->decimals, several);
    }
    grid->n_columns++;
}

static void number_column(struct grid *grid, const json_t *rows, const char *header, const char *key, double scale,
                          int decimals)
{
    grid->headers[grid->n_columns] = header;
    for (size_t i = 0; i < grid->n_rows; i++) {
        const json_t *value = json_object_get(json_array_get(rows, i), key);
        char *cell = grid->cells[i][grid->n_columns];
        double number = json_number_value(value) * scale;

        if (!json_is_number(value))
            (void)snprintf(cell, CELL, "-");
        else
            (void)snprintf(cell, CELL, "%.*f", decimals, number);
    }
    grid->n_columns++;
}

static void name_column(struct grid *grid, const json_t *rows)
{
    grid->headers[grid->n_columns] = "method";
    for (size_t i = 0; i < grid->n_rows; i++)
        (void)snprintf(grid->cells[i][grid->n_columns], CELL, "%s", text_of(json_array_get(rows, i), "method"));
    grid->n_columns++;
}

/* Places are whole or half. */
static int rank_decimals(const json_t *rows)
{
    for (size_t i = 0; i < json_array_size(rows); i++) {
        double rank = json_number_value(json_object_get(json_array_get(rows, i), "rank"));

        if (rank != floor(rank))
            return 1;
    }
    return 0;
}

static size_t row_count(const json_t *rows)
{
    return json_array_size(rows) < MAX_ROWS ? json_array_size(rows) : MAX_ROWS;
}

static void fill_methods(struct grid *grid, const json_t *table)
{
    const json_t *rows = json_object_get(table, "rows");
    const bool several = json_integer_value(json_object_get(table, "repeat")) > 1;

    memset(grid, 0, sizeof *grid);
    grid->n_rows = row_count(rows);
    number_column(grid, rows, "rank", "rank", 1, rank_decimals(rows));
    name_column(grid, rows);
    for (size_t i = 0; i < sizeof OF_GOLD / sizeof OF_GOLD[0]; i++)
        put_column(grid, rows, &OF_GOLD[i], several);
    for (size_t i = 0; i < sizeof OF_CROWD / sizeof OF_CROWD[0]; i++)
        put_column(grid, rows, &OF_CROWD[i], several);
    number_column(grid, rows, "seconds", "seconds", 1, 2);
}

static void fill_consensus(struct grid *grid, const json_t *rows)
{
    memset(grid, 0, sizeof *grid);
    grid->n_rows = row_count(rows);
    name_column(grid, rows);
    number_column(grid, rows, "accuracy %", "accuracy", 100, 1);
    number_column(grid, rows, "seconds", "seconds", 1, 2);
}

/* ---- around the tables ------------------------------------------------------------------------------------------- */

static long long count_of(const json_t *table, const char *key)
{
    return (long long)json_integer_value(json_object_get(table, key));
}

static void put_caption(struct buf *out, const json_t *table)
{
    const long long repeat = count_of(table, "repeat"), seed = count_of(table, "seed");
    const long long folds = count_of(table, "folds");

    (void)buf_printf(out, "%lld labels by %lld annotators on %lld instances, %lld features, %lld classes. ",
                     count_of(table, "labels_used"), count_of(table, "annotators"), count_of(table, "instances_used"),
                     count_of(table, "features"), count_of(table, "classes"));
    if (strcmp(text_of(table, "basis"), "gold") == 0)
        (void)buf_printf(out, "Accuracy on %lld gold labels of split %s", count_of(table, "n"),
                         text_of(table, "split"));
    else
        (void)buf_printf(out, "No gold of split test or valid: by labels held out in %lld folds", folds);
    if (strcmp(text_of(table, "basis"), "gold") == 0 && folds > 0)
        (void)buf_printf(out, "; held-out labels in %lld folds", folds);
    if (repeat > 1)
        (void)buf_printf(out, "; mean +-deviation of %lld repeats, seeds %lld to %lld.\n", repeat, seed,
                         seed + repeat - 1);
    else
        (void)buf_printf(out, "; one repeat, seed %lld.\n", seed);
}

/* What the cells had no room for. */
static void put_notes(struct buf *out, const json_t *rows, const char *bullet)
{
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);

        if (strcmp(text_of(row, "state"), "failed") == 0 && count_of(row, "fits") > 1)
            (void)buf_printf(out, "%s%s failed in %lld of %lld fits: %s\n", bullet, text_of(row, "method"),
                             count_of(row, "fits_failed"), count_of(row, "fits"), text_of(row, "error"));
        else if (strcmp(text_of(row, "state"), "failed") == 0)
            (void)buf_printf(out, "%s%s failed: %s\n", bullet, text_of(row, "method"), text_of(row, "error"));
        else if (json_is_true(json_object_get(row, "needs_gold")))
            (void)buf_printf(out, "%s%s is trained on gold: an upper bound, not ranked.\n", bullet,
                             text_of(row, "method"));
    }
}

static void put_consensus_caption(struct buf *out, const json_t *consensus)
{
    (void)buf_printf(out, "Consensus of the labels alone, against %lld gold labels of split train:\n",
                     count_of(consensus, "n"));
}

/* ---- Markdown ---------------------------------------------------------------------------------------------------- */

static void grid_markdown(struct buf *out, const struct grid *grid)
{
    for (size_t c = 0; c < grid->n_columns; c++)
        (void)buf_printf(out, "| %s ", grid->headers[c]);
    (void)buf_text(out, "|\n");
    for (size_t c = 0; c < grid->n_columns; c++)
        (void)buf_text(out, strcmp(grid->headers[c], "method") == 0 ? "|---" : "|---:");
    (void)buf_text(out, "|\n");
    for (size_t r = 0; r < grid->n_rows; r++) {
        for (size_t c = 0; c < grid->n_columns; c++)
            (void)buf_printf(out, "| %s ", grid->cells[r][c]);
        (void)buf_text(out, "|\n");
    }
}

enum amx_status face_off_markdown(const json_t *table, struct buf *out)
{
    const json_t *consensus = json_object_get(table, "consensus");
    struct grid grid;

    put_caption(out, table);
    (void)buf_char(out, '\n');
    fill_methods(&grid, table);
    grid_markdown(out, &grid);
    (void)buf_char(out, '\n');
    put_notes(out, json_object_get(table, "rows"), "- ");
    if (json_is_object(consensus)) {
        (void)buf_char(out, '\n');
        put_consensus_caption(out, consensus);
        (void)buf_char(out, '\n');
        fill_consensus(&grid, json_object_get(consensus, "rows"));
        grid_markdown(out, &grid);
        put_notes(out, json_object_get(consensus, "rows"), "\n- ");
    }
    return out->status;
}

/* ---- text -------------------------------------------------------------------------------------------------------- */

static void grid_text(struct buf *out, const struct grid *grid)
{
    int width[MAX_COLUMNS];

    for (size_t c = 0; c < grid->n_columns; c++) {
        width[c] = (int)strlen(grid->headers[c]);
        for (size_t r = 0; r < grid->n_rows; r++)
            width[c] = (int)strlen(grid->cells[r][c]) > width[c] ? (int)strlen(grid->cells[r][c]) : width[c];
    }
    for (size_t r = 0; r <= grid->n_rows; r++) {
        for (size_t c = 0; c < grid->n_columns; c++) {
            const char *cell = r == 0 ? grid->headers[c] : grid->cells[r - 1][c];
            const bool left = strcmp(grid->headers[c], "method") == 0;

            (void)buf_printf(out, left ? "%s%-*s" : "%s%*s", c > 0 ? "  " : "", width[c], cell);
        }
        (void)buf_char(out, '\n');
    }
}

enum amx_status face_off_text(const json_t *table, struct buf *out)
{
    const json_t *consensus = json_object_get(table, "consensus");
    struct grid grid;

    put_caption(out, table);
    (void)buf_char(out, '\n');
    fill_methods(&grid, table);
    grid_text(out, &grid);
    put_notes(out, json_object_get(table, "rows"), "");
    if (json_is_object(consensus)) {
        (void)buf_char(out, '\n');
        put_consensus_caption(out, consensus);
        fill_consensus(&grid, json_object_get(consensus, "rows"));
        grid_text(out, &grid);
        put_notes(out, json_object_get(consensus, "rows"), "");
    }
    return out->status;
}

/* ---- CSV --------------------------------------------------------------------------------------------------------- */

static void csv_cell(struct buf *out, const json_t *value)
{
    char text[NUMBER_TEXT_BYTES];

    (void)buf_char(out, ',');
    if (json_is_string(value))
        (void)csv_rows_write_cell(out, json_string_value(value), json_string_length(value));
    else if (json_is_integer(value))
        (void)buf_printf(out, "%lld", (long long)json_integer_value(value));
    else if (json_is_real(value) && number_double_text(json_real_value(value), text) > 0)
        (void)buf_text(out, text);
}

static void csv_row(struct buf *out, const char *section, const json_t *row)
{
    static const char *const spreads[] = {
        "accuracy",        "balanced_accuracy",       "log_loss", "brier", "calibration_error",
        "annotator_auroc", "held_out_log_likelihood", "risk_rank"};

    (void)buf_text(out, section);
    csv_cell(out, json_object_get(row, "method"));
    csv_cell(out, json_object_get(row, "state"));
    csv_cell(out, json_object_get(row, "rank"));
    for (size_t i = 0; i < sizeof spreads / sizeof spreads[0]; i++) {
        const json_t *value = json_object_get(row, spreads[i]);

        /* A consensus has one accuracy and no deviation. */
        csv_cell(out, json_is_object(value) ? json_object_get(value, "mean") : value);
        csv_cell(out, json_object_get(value, "std"));
    }
    csv_cell(out, json_object_get(row, "fits"));
    csv_cell(out, json_object_get(row, "fits_failed"));
    csv_cell(out, json_object_get(row, "seconds"));
    csv_cell(out, json_object_get(row, "error"));
    (void)buf_char(out, '\n');
}

enum amx_status face_off_csv(const json_t *table, struct buf *out)
{
    const json_t *rows = json_object_get(table, "rows");
    const json_t *consensus = json_object_get(json_object_get(table, "consensus"), "rows");

    (void)buf_text(out, "section,method,state,rank,accuracy,accuracy_std,balanced_accuracy,balanced_accuracy_std,"
                        "log_loss,log_loss_std,brier,brier_std,calibration_error,calibration_error_std,"
                        "annotator_auroc,annotator_auroc_std,held_out_log_likelihood,held_out_log_likelihood_std,"
                        "risk_rank,risk_rank_std,fits,fits_failed,seconds,error\n");
    for (size_t i = 0; i < json_array_size(rows); i++)
        csv_row(out, "method", json_array_get(rows, i));
    for (size_t i = 0; i < json_array_size(consensus); i++)
        csv_row(out, "consensus", json_array_get(consensus, i));
    return out->status;
}
