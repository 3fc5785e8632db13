/* Reads manifest.json as hostile input, and compares what it says with the code that is linked here. */
#include "internal.h"
#include "json.h"
#include "platform.h"

enum { SHOWN = 80, LONGEST_PATH = 200, LONGEST_TEXT = 4096, LONGEST_NAME = 200, MOST_RANK = 32 };
static const int64_t MOST_BYTES = (int64_t)1 << 40, MOST_MANIFEST_BYTES = (int64_t)64 << 20;

typedef struct check {
    const gossamer_model *model;
    char *message; /* may be NULL */
    size_t room, length;
    char path[LONGEST_PATH]; /* of the object under way, with its point: "inputs[0]." */
} check;

/* ---- messages ---- */

static void say_bytes(check *c, const char *text, size_t bytes) {
    for (size_t i = 0; i < bytes && c->length + 1 < c->room; ++i) {
        unsigned char byte = (unsigned char)text[i];
        c->message[c->length++] = byte < 0x20 || byte == 0x7F ? ' ' : (char)byte;
    }
    if (c->room > 0) c->message[c->length] = 0;
}

static void say(check *c, const char *text) { say_bytes(c, text, strlen(text)); }

static void say_number(check *c, int64_t number) {
    char digits[24];
    int at = sizeof digits;
    uint64_t left = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    do digits[--at] = (char)('0' + left % 10);
    while ((left /= 10) > 0);
    if (number < 0) digits[--at] = '-';
    say_bytes(c, digits + at, sizeof digits - (size_t)at);
}

/* As Python's runtime says it: "; got " and the value as JSON, cut where it is long. */
static void say_got(check *c, gossamer_json value) {
    size_t bytes = (size_t)(value.end - value.start);
    say(c, "; got ");
    if (bytes <= SHOWN) {
        say_bytes(c, value.start, bytes);
        return;
    }
    bytes = SHOWN - 3;
    while (bytes > 0 && ((unsigned char)value.start[bytes] & 0xC0) == 0x80) --bytes; /* between characters */
    say_bytes(c, value.start, bytes);
    say(c, "...");
}

/* Begins the message about member `key` of the object under way. */
static void say_field(check *c, const char *key, const char *what) {
    c->length = 0;
    say(c, "manifest.json: field ");
    say(c, c->path);
    say(c, key);
    say(c, what);
}

static int refuse(check *c, const char *key, const char *expected, gossamer_json value) {
    say_field(c, key, value.start == NULL ? " is missing" : " is wrong; expected ");
    if (value.start == NULL) return 0;
    say(c, expected);
    say_got(c, value);
    return 0;
}

static int disagree(check *c, const char *what) {
    c->length = 0;
    say(c, "manifest and code disagree about the ");
    say(c, what);
    return 0;
}

/* Writes "key[index]". */
static void name_element(char *text, size_t room, const char *key, int64_t index) {
    check name = {NULL, text, room, 0, {0}};
    say(&name, key);
    say(&name, "[");
    say_number(&name, index);
    say(&name, "]");
}

/* Sets the path of element `index` of list `key`, or of object `key` where index is negative. */
static void enter(check *c, const char *key, int64_t index) {
    char element[LONGEST_PATH];
    name_element(element, sizeof element, key, index);
    check path = {NULL, c->path, sizeof c->path, 0, {0}};
    say(&path, index < 0 ? key : element);
    say(&path, ".");
}

/* ---- fields of one type; 0 after a refusal ---- */

static int is_kind(check *c, gossamer_json object, const char *key, char kind, gossamer_json *value) {
    static const char objects[] = "an object", lists[] = "a list", strings[] = "a string";
    *value = gossamer_json_member(object, key);
    if (gossamer_json_kind(*value) == kind) return 1;
    return refuse(c, key, kind == 'o' ? objects : kind == 'l' ? lists : strings, *value);
}

static int take_integer(check *c, gossamer_json value, const char *key, int64_t low, int64_t high,
                        int64_t *number) {
    if (gossamer_json_integer(value, low, high, number)) return 1;
    if (value.start == NULL) return refuse(c, key, "", value);
    say_field(c, key, " is wrong; expected a whole number in ");
    say_number(c, low);
    say(c, "..");
    say_number(c, high);
    say_got(c, value);
    return 0;
}

static int read_integer(check *c, gossamer_json object, const char *key, int64_t low, int64_t high,
                        int64_t *number) {
    return take_integer(c, gossamer_json_member(object, key), key, low, high, number);
}

static int read_text(check *c, gossamer_json object, const char *key, char *text, size_t room) {
    gossamer_json value;
    if (!is_kind(c, object, key, 's', &value)) return 0;
    if (gossamer_json_text(value, text, room) >= 0) return 1;
    say_field(c, key, " is too long; expected at most ");
    say_number(c, (int64_t)room - 1);
    say(c, " bytes");
    return 0;
}

static int is_letter(char b) { return (b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z') || b == '_'; }
static int is_digit(char b) { return b >= '0' && b <= '9'; }

/* A plain name: nothing in it leads to another folder. */
static int is_file_name(const char *name) {
    if (!is_letter(*name) && !is_digit(*name)) return 0;
    for (const char *b = name; *b != 0; ++b) {
        if (!is_letter(*b) && !is_digit(*b) && *b != '.' && *b != '-') return 0;
        if (b - name >= LONGEST_NAME) return 0;
    }
    return strcmp(name, "manifest.json") != 0;
}

static int is_sha256(const char *text) {
    size_t length = 0;
    for (; text[length] != 0; ++length) {
        if (!is_digit(text[length]) && (text[length] < 'a' || text[length] > 'f')) return 0;
    }
    return length == 64;
}

static int read_name(check *c, gossamer_json object, const char *key, char *name) {
    gossamer_json value;
    if (!is_kind(c, object, key, 's', &value)) return 0;
    if (gossamer_json_text(value, name, LONGEST_TEXT) >= 0 && is_file_name(name)) return 1;
    return refuse(c, key, "text matching [A-Za-z0-9_][A-Za-z0-9_.\\-]{0,199}", value);
}

static int read_sha256(check *c, gossamer_json object, char *text) {
    gossamer_json value;
    if (!is_kind(c, object, "sha256", 's', &value)) return 0;
    if (gossamer_json_text(value, text, 65) >= 0 && is_sha256(text)) return 1;
    return refuse(c, "sha256", "text matching [0-9a-f]{64}", value);
}

static int is_one_of(check *c, gossamer_json object, const char *key, const char *const *known,
                     const char *expected) {
    gossamer_json value;
    if (!is_kind(c, object, key, 's', &value)) return 0;
    for (; *known != NULL; ++known) {
        if (gossamer_json_is(value, *known)) return 1;
    }
    return refuse(c, key, expected, value);
}

/* ---- the parts of a manifest ---- */

static int check_head(check *c, gossamer_json top) {
    static const char *const formats[] = {"gossamer-artifact", NULL};
    int64_t version = c->model->table_count > 0 ? 3 : 2, got;
    if (!is_one_of(c, top, "format", formats, "one of gossamer-artifact")) return 0;
    gossamer_json given = gossamer_json_member(top, "version");
    if (given.start == NULL) return refuse(c, "version", "", given);
    if (!gossamer_json_integer(given, version, version, &got)) {
        c->length = 0;
        say(c, "manifest.json: was written in another version of the format; expected version ");
        say_number(c, version);
        say_got(c, given);
        return 0;
    }
    return 1;
}

static int check_entry(check *c, gossamer_json top) {
    static const char start[] = "gossamer_entry_";
    char text[LONGEST_NAME + sizeof start];
    gossamer_json entry;
    size_t at = 0;
    if (!is_kind(c, top, "entry", 's', &entry)) return 0;
    int good = gossamer_json_text(entry, text, sizeof text) > 0;
    for (; good && at + 1 < sizeof start; ++at) good = text[at] == start[at];
    good = good && is_letter(text[at]);
    for (; good && text[at] != 0; ++at) good = is_letter(text[at]) || is_digit(text[at]);
    return good ? 1 : refuse(c, "entry", "text matching gossamer_entry_[A-Za-z_][A-Za-z0-9_]{0,199}", entry);
}

static int check_target(check *c, gossamer_json top) {
    static const char *const families[] = {"x86", "arm64", "arm", "wasm", NULL};
    static const char *const containers[] = {"elf", "macho", "wasm", NULL};
    char text[LONGEST_TEXT + 1];
    gossamer_json target, required, word;
    const char *place = NULL;
    if (!is_kind(c, top, "target", 'o', &target)) return 0;
    enter(c, "target", -1);
    if (!read_text(c, target, "name", text, LONGEST_NAME + 1)) return 0;
    if (!read_text(c, target, "triple", text, LONGEST_NAME + 1)) return 0;
    if (!is_one_of(c, target, "family", families, "one of x86, arm64, arm, wasm")) return 0;
    if (!is_one_of(c, target, "container", containers, "one of elf, macho, wasm")) return 0;
    if (!is_kind(c, target, "requires", 'l', &required)) return 0;
    for (int64_t index = 0; gossamer_json_next(required, &place, NULL, &word); ++index) {
        if (gossamer_json_text(word, text, sizeof text) < 0) {
            char element[32];
            name_element(element, sizeof element, "requires", index);
            return refuse(c, element, "a string of at most 4096 characters", word);
        }
        if (gossamer_has_feature(text)) continue;
        c->length = 0;
        say(c, "target: this machine cannot run the artifact; expected a processor with ");
        say(c, text);
        return 0;
    }
    c->path[0] = 0;
    return 1;
}

static int check_sizes(check *c, gossamer_json tensor, const gossamer_tensor *compiled, const char *kind) {
    gossamer_json shape, size, slots = gossamer_json_member(tensor, "slots"), slot;
    const char *place = NULL, *slot_place = NULL;
    int32_t rank = 0;
    if (!is_kind(c, tensor, "shape", 'l', &shape)) return 0;
    for (; gossamer_json_next(shape, &place, NULL, &size); ++rank) {
        char element[32];
        int64_t expected = rank < compiled->rank ? compiled->shape[rank] : 0, got = 0;
        if (rank == MOST_RANK) return refuse(c, "shape", "at most 32 elements", shape);
        if (gossamer_json_next(slots, &slot_place, NULL, &slot)) {
            if (!gossamer_json_integer(slot, -1, INT32_MAX, &got)) return refuse(c, "slots", "places of the table", slots);
            if (got >= 0 && -1 - got != expected) return disagree(c, kind);
            if (got >= 0) continue;
        }
        name_element(element, sizeof element, "shape", rank);
        if (!take_integer(c, size, element, 0, MOST_BYTES, &got)) return 0;
        if (rank < compiled->rank && got != expected) return disagree(c, kind);
    }
    return rank == compiled->rank ? 1 : disagree(c, kind);
}

static const char TYPES[] =
    "one of float32, float64, float16, bfloat16, float8_e4m3fn, float8_e4m3fnuz, "
    "float8_e5m2, float8_e5m2fnuz, float8_e8m0fnu, float4_e2m1fn, int2, int4, int8, "
    "int16, int32, int64, uint2, uint4, uint8, uint16, uint32, uint64, bool";

static int check_tensors(check *c, gossamer_json top, const char *kind, const gossamer_tensor *compiled,
                         int32_t count) {
    static const char *const types[] = {
        "float32", "float64", "float16", "bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2",
        "float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn", "int2", "int4", "int8", "int16", "int32",
        "int64", "uint2", "uint4", "uint8", "uint16", "uint32", "uint64", "bool", NULL,
    };
    static const int32_t numbers[] = {
        GOSSAMER_FLOAT32, GOSSAMER_FLOAT64, GOSSAMER_FLOAT16, GOSSAMER_BFLOAT16, GOSSAMER_FLOAT8_E4M3FN,
        GOSSAMER_FLOAT8_E4M3FNUZ, GOSSAMER_FLOAT8_E5M2, GOSSAMER_FLOAT8_E5M2FNUZ, GOSSAMER_FLOAT8_E8M0FNU,
        GOSSAMER_FLOAT4_E2M1FN, GOSSAMER_INT2, GOSSAMER_INT4, GOSSAMER_INT8, GOSSAMER_INT16, GOSSAMER_INT32,
        GOSSAMER_INT64, GOSSAMER_UINT2, GOSSAMER_UINT4, GOSSAMER_UINT8, GOSSAMER_UINT16, GOSSAMER_UINT32,
        GOSSAMER_UINT64, GOSSAMER_BOOL,
    };
    gossamer_json list, tensor, name;
    const char *place = NULL;
    int32_t index = 0;
    if (!is_kind(c, top, kind, 'l', &list)) return 0;
    for (; gossamer_json_next(list, &place, NULL, &tensor); ++index) {
        if (gossamer_json_kind(tensor) != 'o') {
            char element[32];
            name_element(element, sizeof element, kind, index);
            return refuse(c, element, "an object", tensor);
        }
        enter(c, kind, index);
        if (!is_kind(c, tensor, "name", 's', &name)) return 0;
        if (!is_one_of(c, tensor, "dtype", types, TYPES)) return 0;
        if (index >= count || !gossamer_json_is(name, compiled[index].name)) return disagree(c, kind);
        for (int i = 0; types[i] != NULL; ++i) {
            int named = gossamer_json_is(gossamer_json_member(tensor, "dtype"), types[i]);
            if (named && numbers[i] != compiled[index].dtype) return disagree(c, kind);
        }
        if (!check_sizes(c, tensor, &compiled[index], kind)) return 0;
    }
    c->path[0] = 0;
    return index == count ? 1 : disagree(c, kind);
}

static int check_memory(check *c, gossamer_json top) {
    int64_t number;
    if (!read_integer(c, top, "threads", 1, GOSSAMER_MAX_THREADS, &number)) return 0;
    if (!read_integer(c, top, "arena_bytes", 0, MOST_BYTES, &number)) return 0;
    if ((uint64_t)number != c->model->arena_bytes) return disagree(c, "arena");
    if (!read_integer(c, top, "scratch_bytes", 0, MOST_BYTES, &number)) return 0;
    if ((uint64_t)number != c->model->scratch_bytes) return disagree(c, "scratch");
    return read_integer(c, top, "arena_bound_bytes", 0, MOST_BYTES, &number);
}

static int check_places(check *c, gossamer_json weights, int64_t bytes) {
    gossamer_json list, tensor;
    const char *place = NULL;
    int64_t offset, size;
    if (!is_kind(c, weights, "tensors", 'l', &list)) return 0;
    for (int64_t index = 0; gossamer_json_next(list, &place, NULL, &tensor); ++index) {
        enter(c, "weights.tensors", index);
        if (!read_integer(c, tensor, "offset", 0, MOST_BYTES, &offset)) return 0;
        if (offset % GOSSAMER_ALIGNMENT != 0) {
            return refuse(c, "offset", "a multiple of 64", gossamer_json_member(tensor, "offset"));
        }
        if (!read_integer(c, tensor, "bytes", 0, MOST_BYTES, &size)) return 0;
        if (offset + size > bytes) {
            return refuse(c, "offset", "a tensor inside the weights", gossamer_json_member(tensor, "offset"));
        }
    }
    return 1;
}

static int same_digest(const char *text, const uint8_t digest[32]) {
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < 32; ++i) {
        if (text[2 * i] != digits[digest[i] >> 4] || text[2 * i + 1] != digits[digest[i] & 15]) return 0;
    }
    return 1;
}

/* Whether the table of files says the same of the weights. */
static int check_listed(check *c, gossamer_json top, gossamer_json file, int64_t bytes, const char *sha256) {
    char name[LONGEST_NAME + 1];
    int64_t listed = -1;
    gossamer_json entry = {NULL, NULL};
    if (gossamer_json_text(file, name, sizeof name) >= 0) {
        entry = gossamer_json_member(gossamer_json_member(top, "files"), name);
    }
    gossamer_json_integer(gossamer_json_member(entry, "bytes"), 0, MOST_BYTES, &listed);
    if (listed == bytes && gossamer_json_is(gossamer_json_member(entry, "sha256"), sha256)) return 1;
    return refuse(c, "weights.file", "a file whose entry in files agrees", file);
}

static int check_weights(check *c, gossamer_json top) {
    char text[LONGEST_TEXT + 1];
    gossamer_json weights, file;
    int64_t bytes;
    if (!is_kind(c, top, "weights", 'o', &weights)) return 0;
    enter(c, "weights", -1);
    if (!read_integer(c, weights, "bytes", 0, MOST_BYTES, &bytes)) return 0;
    file = gossamer_json_member(weights, "file");
    if (gossamer_json_kind(file) != '0' && !read_name(c, weights, "file", text)) return 0;
    if ((gossamer_json_kind(file) == '0') != (c->model->weights != NULL)) return disagree(c, "weights");
    if (!read_sha256(c, weights, text)) return 0;
    if ((uint64_t)bytes != c->model->weights_bytes) return disagree(c, "weights");
    if (!same_digest(text, c->model->weights_sha256)) return disagree(c, "weights");
    if (!check_places(c, weights, bytes)) return 0;
    c->path[0] = 0;
    return gossamer_json_kind(file) == '0' || check_listed(c, top, file, bytes, text);
}

static int check_files(check *c, gossamer_json top) {
    char text[LONGEST_TEXT + 1];
    gossamer_json files, code, key, value;
    const char *place = NULL;
    int64_t number;
    if (!is_kind(c, top, "files", 'o', &files)) return 0;
    while (gossamer_json_next(files, &place, &key, &value)) {
        c->path[0] = 0;
        if (gossamer_json_text(key, text, sizeof text) < 0 || !is_file_name(text)) {
            say_field(c, "files", " names a file wrongly; expected a plain name");
            say_got(c, key);
            return 0;
        }
        check path = {NULL, c->path, sizeof c->path, 0, {0}};
        say(&path, "files.");
        say(&path, text);
        say(&path, ".");
        if (!read_integer(c, value, "bytes", 0, MOST_BYTES, &number) || !read_sha256(c, value, text)) return 0;
    }
    c->path[0] = 0;
    if (!is_kind(c, top, "code", 'l', &code)) return 0;
    place = NULL;
    for (int64_t index = 0; gossamer_json_next(code, &place, NULL, &value); ++index) {
        enter(c, "code", index);
        if (!read_name(c, value, "file", text)) return 0;
        if (gossamer_json_member(files, text).start == NULL) {
            return refuse(c, "file", "a file listed in files", gossamer_json_member(value, "file"));
        }
    }
    c->path[0] = 0;
    return place != NULL ? 1 : refuse(c, "code", "at least one code file", code);
}

static int check_lists(check *c, gossamer_json top) {
    gossamer_json list;
    return is_kind(c, top, "layers", 'l', &list) && is_kind(c, top, "steps", 'l', &list);
}

int32_t gossamer_check_text(const gossamer_model *model, const char *text, size_t bytes, char *message,
                            size_t room) {
    check c = {model, message, room, 0, {0}};
    char name[LONGEST_TEXT + 1];
    gossamer_json top = gossamer_json_parse(text, bytes);
    if (room > 0) message[0] = 0;
    if (top.start == NULL) {
        say(&c, "manifest.json: is not JSON");
        return GOSSAMER_ERROR_MANIFEST;
    }
    if (gossamer_json_kind(top) != 'o') {
        refuse(&c, "(the whole file)", "an object", top);
        return GOSSAMER_ERROR_MANIFEST;
    }
    int good = check_head(&c, top) && read_text(&c, top, "name", name, sizeof name) &&
               read_text(&c, top, "gossamer", name, 101) && check_entry(&c, top) && check_target(&c, top) &&
               check_tensors(&c, top, "inputs", model->inputs, model->input_count) &&
               check_tensors(&c, top, "outputs", model->outputs, model->output_count) && check_memory(&c, top) &&
               check_weights(&c, top) && check_files(&c, top) && check_lists(&c, top);
    return good ? GOSSAMER_OK : GOSSAMER_ERROR_MANIFEST;
}

/* The whole of an open file, or NULL; to be freed. */
static char *read_whole(int file, size_t *bytes) {
    long size = (long)lseek(file, 0, SEEK_END);
    if (size < 0 || size > MOST_MANIFEST_BYTES || lseek(file, 0, SEEK_SET) != 0) return NULL;
    char *text = malloc((size_t)size + 1);
    for (*bytes = 0; text != NULL && *bytes < (size_t)size;) {
        ssize_t got = read(file, text + *bytes, (size_t)size - *bytes);
        if (got <= 0) return free(text), NULL;
        *bytes += (size_t)got;
    }
    return text;
}

int32_t gossamer_check(const gossamer_model *model, const char *folder, char *message, size_t room) {
    if (model == NULL || folder == NULL || (message == NULL && room > 0)) return GOSSAMER_ERROR_ARGUMENT;
    if (model->api_version != GOSSAMER_API_VERSION) return GOSSAMER_ERROR_VERSION;
    check c = {model, message, room, 0, {0}};
    if (room > 0) message[0] = 0;
    int file = gossamer_open_in_folder(folder, "manifest.json");
    size_t bytes = 0;
    char *text = file < 0 ? NULL : read_whole(file, &bytes);
    if (file >= 0) close(file);
    if (text == NULL) {
        say(&c, "manifest.json: cannot be read");
        return GOSSAMER_ERROR_FILE;
    }
    int32_t status = gossamer_check_text(model, text, bytes, message, room);
    free(text);
    return status;
}
