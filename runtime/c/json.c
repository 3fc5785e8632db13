/* RFC 8259, strictly: no comments, no trailing commas, no NaN, no byte-order mark, UTF-8 that is well formed. */
#include "json.h"

typedef struct reader {
    const char *at, *end;
} reader;

static int is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
static int is_digit(char c) { return c >= '0' && c <= '9'; }

static void skip_space(reader *r) {
    while (r->at < r->end && is_space(*r->at)) ++r->at;
}

static int take(reader *r, char c) {
    if (r->at == r->end || *r->at != c) return 0;
    ++r->at;
    return 1;
}

static int take_word(reader *r, const char *word) {
    for (; *word != 0; ++word) {
        if (!take(r, *word)) return 0;
    }
    return 1;
}

static int take_digits(reader *r) {
    const char *start = r->at;
    while (r->at < r->end && is_digit(*r->at)) ++r->at;
    return r->at > start;
}

static int take_number(reader *r) {
    take(r, '-');
    if (!take(r, '0') && !take_digits(r)) return 0;
    if (take(r, '.') && !take_digits(r)) return 0;
    if (take(r, 'e') || take(r, 'E')) {
        if (!take(r, '+')) take(r, '-');
        return take_digits(r);
    }
    return 1;
}

static int hex_digit(char c) {
    if (is_digit(c)) return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Four hexadecimal digits, or -1. */
static int32_t take_hex(reader *r) {
    int32_t code = 0;
    for (int i = 0; i < 4; ++i, ++r->at) {
        int digit = r->at < r->end ? hex_digit(*r->at) : -1;
        if (digit < 0) return -1;
        code = code * 16 + digit;
    }
    return code;
}

/* One character of two to four bytes: no overlong forms, no surrogates, nothing beyond U+10FFFF. */
static int take_utf8(reader *r) {
    const unsigned char *c = (const unsigned char *)r->at;
    ptrdiff_t left = r->end - r->at;
    int more = c[0] >= 0xF0 ? 3 : c[0] >= 0xE0 ? 2 : 1;
    if (c[0] < 0xC2 || c[0] > 0xF4 || left <= more) return 0;
    for (int i = 1; i <= more; ++i) {
        if ((c[i] & 0xC0) != 0x80) return 0;
    }
    if ((c[0] == 0xE0 && c[1] < 0xA0) || (c[0] == 0xED && c[1] > 0x9F)) return 0;
    if ((c[0] == 0xF0 && c[1] < 0x90) || (c[0] == 0xF4 && c[1] > 0x8F)) return 0;
    r->at += more + 1;
    return 1;
}

static int take_escape(reader *r) {
    static const char known[] = "\"\\/bfnrt";
    if (take(r, 'u')) return take_hex(r) >= 0;
    for (const char *c = known; *c != 0; ++c) {
        if (take(r, *c)) return 1;
    }
    return 0;
}

static int take_string(reader *r) {
    if (!take(r, '"')) return 0;
    while (r->at < r->end) {
        unsigned char c = (unsigned char)*r->at;
        if (c == '"') {
            ++r->at;
            return 1;
        }
        if (c < 0x20) return 0;
        if (c >= 0x80) {
            if (!take_utf8(r)) return 0;
        } else {
            ++r->at;
            if (c == '\\' && !take_escape(r)) return 0;
        }
    }
    return 0;
}

static int take_value(reader *r, int depth);

static int take_container(reader *r, int depth, char end) {
    ++r->at;
    skip_space(r);
    if (take(r, end)) return 1;
    if (depth == GOSSAMER_JSON_DEPTH) return 0;
    for (;;) {
        skip_space(r);
        if (end == '}') {
            if (!take_string(r)) return 0;
            skip_space(r);
            if (!take(r, ':')) return 0;
        }
        if (!take_value(r, depth + 1)) return 0;
        if (take(r, end)) return 1;
        if (!take(r, ',')) return 0;
    }
}

/* A value with the space around it. */
static int take_value(reader *r, int depth) {
    int good = 0;
    skip_space(r);
    switch (r->at < r->end ? *r->at : 0) {
    case '{': good = take_container(r, depth, '}'); break;
    case '[': good = take_container(r, depth, ']'); break;
    case '"': good = take_string(r); break;
    case 't': good = take_word(r, "true"); break;
    case 'f': good = take_word(r, "false"); break;
    case 'n': good = take_word(r, "null"); break;
    default: good = take_number(r);
    }
    skip_space(r);
    return good;
}

/* The value that starts at or behind `r->at`, which then stands behind it and its space. */
static gossamer_json next_value(reader *r) {
    skip_space(r);
    gossamer_json value = {r->at, NULL};
    if (!take_value(r, 0)) return (gossamer_json){NULL, NULL};
    value.end = r->at;
    while (value.end > value.start && is_space(value.end[-1])) --value.end;
    return value;
}

gossamer_json gossamer_json_parse(const char *text, size_t bytes) {
    reader r = {text, text + bytes};
    gossamer_json value = next_value(&r);
    return r.at == r.end ? value : (gossamer_json){NULL, NULL};
}

char gossamer_json_kind(gossamer_json value) {
    if (value.start == NULL) return 0;
    switch (*value.start) {
    case '{': return 'o';
    case '[': return 'l';
    case '"': return 's';
    case 't': return 't';
    case 'f': return 'f';
    case 'n': return '0';
    default: return 'n';
    }
}

int gossamer_json_next(gossamer_json container, const char **place, gossamer_json *key, gossamer_json *value) {
    char kind = gossamer_json_kind(container);
    if (kind != 'o' && kind != 'l') return 0;
    reader r = {*place == NULL ? container.start + 1 : *place, container.end};
    skip_space(&r);
    if (take(&r, kind == 'o' ? '}' : ']')) return 0;
    take(&r, ',');
    if (kind == 'o') {
        gossamer_json found = next_value(&r);
        if (key != NULL) *key = found;
        take(&r, ':');
    }
    *value = next_value(&r);
    *place = r.at;
    return value->start != NULL;
}

gossamer_json gossamer_json_member(gossamer_json object, const char *key) {
    gossamer_json found = {NULL, NULL}, name, value;
    const char *place = NULL;
    if (gossamer_json_kind(object) != 'o') return found;
    while (gossamer_json_next(object, &place, &name, &value)) {
        if (gossamer_json_is(name, key)) found = value;
    }
    return found;
}

int gossamer_json_integer(gossamer_json value, int64_t low, int64_t high, int64_t *number) {
    if (gossamer_json_kind(value) != 'n') return 0;
    const char *at = value.start;
    int negative = *at == '-';
    int64_t sum = 0; /* below zero, where there is one number more */
    for (at += negative; at < value.end; ++at) {
        if (!is_digit(*at) || sum < (INT64_MIN + (*at - '0')) / 10) return 0;
        sum = sum * 10 - (*at - '0');
    }
    if (!negative && sum == INT64_MIN) return 0;
    *number = negative ? sum : -sum;
    return low <= *number && *number <= high;
}

/* Writes a code point as UTF-8; surrogates that stand alone like any other. Its bytes. */
static int put_utf8(int32_t code, char *out) {
    if (code < 0x80) return out[0] = (char)code, 1;
    if (code < 0x800) return out[0] = (char)(0xC0 | code >> 6), out[1] = (char)(0x80 | (code & 0x3F)), 2;
    int rest = code < 0x10000 ? 2 : 3;
    out[0] = (char)((rest == 2 ? 0xE0 : 0xF0) | code >> (6 * rest));
    for (int i = 1; i <= rest; ++i) out[i] = (char)(0x80 | (code >> (6 * (rest - i)) & 0x3F));
    return rest + 1;
}

static int32_t escaped(reader *r) {
    static const char letters[] = "bfnrt", meanings[] = "\b\f\n\r\t";
    char c = *r->at++;
    if (c != 'u') {
        for (int i = 0; letters[i] != 0; ++i) {
            if (letters[i] == c) return meanings[i];
        }
        return c;
    }
    int32_t code = take_hex(r);
    reader low = *r;
    if (code >= 0xD800 && code < 0xDC00 && take(&low, '\\') && take(&low, 'u')) {
        int32_t second = take_hex(&low);
        if (second >= 0xDC00 && second < 0xE000) {
            *r = low;
            return 0x10000 + ((code - 0xD800) << 10) + (second - 0xDC00);
        }
    }
    return code;
}

int64_t gossamer_json_text(gossamer_json value, char *text, size_t room) {
    if (gossamer_json_kind(value) != 's') return -1;
    reader r = {value.start + 1, value.end - 1};
    size_t length = 0;
    while (r.at < r.end) {
        char bytes[4] = {*r.at++, 0, 0, 0};
        int count = bytes[0] == '\\' ? put_utf8(escaped(&r), bytes) : 1;
        if (length + (size_t)count >= room) return -1;
        for (int i = 0; i < count; ++i) {
            if (bytes[i] == 0) return -1;
            text[length++] = bytes[i];
        }
    }
    if (room == 0) return -1;
    text[length] = 0;
    return (int64_t)length;
}

int gossamer_json_is(gossamer_json value, const char *text) {
    if (gossamer_json_kind(value) != 's') return 0;
    reader r = {value.start + 1, value.end - 1};
    while (r.at < r.end) {
        char bytes[4] = {*r.at++, 0, 0, 0};
        int count = bytes[0] == '\\' ? put_utf8(escaped(&r), bytes) : 1;
        for (int i = 0; i < count; ++i, ++text) {
            if (*text != bytes[i] || *text == 0) return 0;
        }
    }
    return *text == 0;
}
