/* Reads JSON that nobody has vouched for, in place and without memory of its own; not shipped. */
#ifndef GOSSAMER_JSON_H
#define GOSSAMER_JSON_H

#include <stddef.h>
#include <stdint.h>

#define GOSSAMER_JSON_DEPTH 64 /* objects and lists inside each other */

/* The text of one value, without space around it; {NULL, NULL} is no value. */
typedef struct gossamer_json {
    const char *start, *end;
} gossamer_json;

/* The value that `bytes` of UTF-8 text are; no value where they are not exactly one. All other functions take values
 * that come from it, and answer "no value" or 0 for a value of another kind. */
gossamer_json gossamer_json_parse(const char *text, size_t bytes);

/* 'o'bject, 'l'ist, 's'tring, 'n'umber, 't'rue, 'f'alse, '0' for null, 0 for no value. */
char gossamer_json_kind(gossamer_json value);

/* The last member of an object that is called `key`. */
gossamer_json gossamer_json_member(gossamer_json object, const char *key);

/* Steps through an object or list: `*place` starts as NULL. `key`, where it is wanted, is the member's name. */
int gossamer_json_next(gossamer_json container, const char **place, gossamer_json *key, gossamer_json *value);

/* A whole number from `low` to `high`, written without a point or exponent. */
int gossamer_json_integer(gossamer_json value, int64_t low, int64_t high, int64_t *number);

/* Writes a string as UTF-8 with a zero behind it; its length, or -1 where it is none, too long, or
 * has a zero inside. */
int64_t gossamer_json_text(gossamer_json value, char *text, size_t room);

/* Whether the value is the string `text`. */
int gossamer_json_is(gossamer_json value, const char *text);

#endif
