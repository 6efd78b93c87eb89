/* clock.c - the program's only clock, and RFC 3339 text. Calendar arithmetic is done here (days from civil date,
 * proleptic Gregorian) because timegm and strptime depend on locale and accept too much. */
#include "util/clock.h"

#include <stdatomic.h>
#include <time.h>

static _Atomic int64_t test_offset_ms;           /* added to both clocks */
static _Atomic int64_t test_wall_ms = INT64_MIN; /* INT64_MIN: the wall clock runs */

int64_t clock_monotonic_ns(void)
{
    struct timespec t;
    if (clock_gettime(CLOCK_MONOTONIC, &t) != 0)
        return 0; /* cannot fail on Linux with this clock */
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec +
           atomic_load_explicit(&test_offset_ms, memory_order_relaxed) * 1000000;
}

int64_t clock_monotonic_ms(void)
{
    return clock_monotonic_ns() / 1000000;
}

int64_t clock_wall_ms(void)
{
    struct timespec t;
    int64_t frozen = atomic_load_explicit(&test_wall_ms, memory_order_relaxed);
    if (frozen != INT64_MIN)
        return frozen;
    if (clock_gettime(CLOCK_REALTIME, &t) != 0)
        return 0;
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000 + atomic_load_explicit(&test_offset_ms, memory_order_relaxed);
}

void clock_test_advance_ms(int64_t ms)
{
    atomic_fetch_add(&test_offset_ms, ms);
    if (atomic_load(&test_wall_ms) != INT64_MIN)
        atomic_fetch_add(&test_wall_ms, ms);
}

void clock_test_set_wall_ms(int64_t ms)
{
    atomic_store(&test_wall_ms, ms < 0 ? INT64_MIN : ms);
}

/* Days since 1970-01-01 of a Gregorian date; years start in March so that the leap day is the last one. */
static int64_t days_of_date(int64_t year, int64_t month, int64_t day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t year_of_era = year - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468;
}

static void date_of_days(int64_t days, int64_t *year, int64_t *month, int64_t *day)
{
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t day_of_era = days - era * 146097;
    int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t shifted = (5 * day_of_year + 2) / 153;
    *day = day_of_year - (153 * shifted + 2) / 5 + 1;
    *month = shifted + (shifted < 10 ? 3 : -9);
    *year = year_of_era + era * 400 + (*month <= 2);
}

/* The last `count` decimal digits of value, and what follows them. */
static char *put_digits(char *at, int64_t value, size_t count, char next)
{
    for (size_t i = count; i-- > 0; value /= 10)
        at[i] = (char)('0' + value % 10);
    at[count] = next;
    return at + count + 1;
}

/* Not by printf: every answer to a label has a time, and printf is slow in this process (OpenBLAS comes with
 * libquadmath, whose own conversions put glibc's printf on its long way for everybody). */
char *clock_text(int64_t ms, char out[CLOCK_TEXT_BYTES])
{
    const int64_t first = -62167219200000; /* 0000-01-01 */
    const int64_t last = 253402300799999;  /* 9999-12-31T23:59:59.999 */
    int64_t year, month, day;

    ms = ms < first ? first : ms > last ? last : ms;
    int64_t days = (ms >= 0 ? ms : ms - 86399999) / 86400000;
    int rest = (int)(ms - days * 86400000);
    date_of_days(days, &year, &month, &day);
    char *at = put_digits(out, year, 4, '-');
    at = put_digits(at, month, 2, '-');
    at = put_digits(at, day, 2, 'T');
    at = put_digits(at, rest / 3600000, 2, ':');
    at = put_digits(at, rest / 60000 % 60, 2, ':');
    at = put_digits(at, rest / 1000 % 60, 2, '.');
    at = put_digits(at, rest % 1000, 3, 'Z');
    *at = '\0';
    return out;
}

/* `count` digits at text[*at]; -1 when they are not all digits. */
static int digits(const char *text, size_t n, size_t *at, size_t count)
{
    int value = 0;
    if (count > n - *at)
        return -1;
    for (size_t i = 0; i < count; i++) {
        char c = text[*at + i];
        if (c < '0' || c > '9')
            return -1;
        value = value * 10 + (c - '0');
    }
    *at += count;
    return value;
}

static bool skip(const char *text, size_t n, size_t *at, char c)
{
    if (*at >= n || text[*at] != c)
        return false;
    (*at)++;
    return true;
}

/* "Z" or "+hh:mm"; minutes east of UTC. */
static bool parse_zone(const char *text, size_t n, size_t *at, int *minutes)
{
    if (skip(text, n, at, 'Z') || skip(text, n, at, 'z')) {
        *minutes = 0;
        return true;
    }
    int sign = skip(text, n, at, '+') ? 1 : skip(text, n, at, '-') ? -1 : 0;
    if (sign == 0)
        return false;
    int hours = digits(text, n, at, 2);
    if (hours < 0 || hours > 23 || !skip(text, n, at, ':'))
        return false;
    int rest = digits(text, n, at, 2);
    if (rest < 0 || rest > 59)
        return false;
    *minutes = sign * (hours * 60 + rest);
    return true;
}

static int days_in_month(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return month == 2 && leap ? 29 : days[month - 1];
}

bool clock_parse(const char *text, size_t n, int64_t *ms)
{
    size_t at = 0;
    int zone, millis = 0;

    int year = digits(text, n, &at, 4);
    if (year < 0 || !skip(text, n, &at, '-'))
        return false;
    int month = digits(text, n, &at, 2);
    if (month < 1 || month > 12 || !skip(text, n, &at, '-'))
        return false;
    int day = digits(text, n, &at, 2);
    if (day < 1 || day > days_in_month(year, month) || !(skip(text, n, &at, 'T') || skip(text, n, &at, 't')))
        return false;
    int hour = digits(text, n, &at, 2);
    if (hour < 0 || hour > 23 || !skip(text, n, &at, ':'))
        return false;
    int minute = digits(text, n, &at, 2);
    if (minute < 0 || minute > 59 || !skip(text, n, &at, ':'))
        return false;
    int second = digits(text, n, &at, 2);
    if (second < 0 || second > 60)
        return false;
    if (skip(text, n, &at, '.')) {
        int weight = 100;
        size_t start = at;
        for (; at < n && text[at] >= '0' && text[at] <= '9'; at++) {
            millis += weight * (text[at] - '0');
            weight /= 10;
        }
        if (at == start)
            return false;
    }
    if (!parse_zone(text, n, &at, &zone) || at != n)
        return false;
    int64_t seconds = ((days_of_date(year, month, day) * 24 + hour) * 60 + minute - zone) * 60 + second;
    *ms = seconds * 1000 + millis;
    return true;
}
