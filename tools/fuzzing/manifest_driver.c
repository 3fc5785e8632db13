/* Mutates a manifest and has the C runtime read each mutant; built with -DMODEL=gossamer_model_NAME and sanitizers.
 *
 *     driver MANIFEST COUNT SEED     mutants made here: bytes, digits, pieces of the text
 *     driver MANIFEST...             each file once, with what is said of it
 *
 * With -DLIBFUZZER it is a target of libFuzzer instead. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

extern const gossamer_model MODEL;

enum { ROOM = 400 };

/* Reads a copy that ends where its memory ends; a message must be one line that ends. */
static int32_t read_one(const uint8_t *data, size_t bytes, char message[ROOM]) {
    char *copy = malloc(bytes > 0 ? bytes : 1);
    if (copy == NULL) abort();
    memcpy(copy, data, bytes);
    int32_t status = gossamer_check_text(&MODEL, copy, bytes, message, ROOM);
    free(copy);
    if (memchr(message, 0, ROOM) == NULL || strchr(message, '\n') != NULL) abort();
    if ((status == GOSSAMER_OK) != (message[0] == 0)) abort();
    return status;
}

#ifdef LIBFUZZER

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    char message[ROOM];
    read_one(data, bytes, message);
    return 0;
}

#else

static uint64_t state;

static size_t draw(size_t below) { /* xorshift64 */
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return below == 0 ? 0 : (size_t)(state % below);
}

/* One change; `text` has room for as much again. The new length. */
static size_t change(uint8_t *text, size_t bytes) {
    static const char *const pieces[] = {"-1", "1e400", "\\ud800", "null", "[", "{", "\"", "9223372036854775808", "\\", "\xff", ",", "..", "0"};
    size_t at = draw(bytes), length = 1 + draw(draw(4) ? 4 : 200);
    if (at + length > bytes) length = bytes - at;
    const char *piece = pieces[draw(sizeof pieces / sizeof *pieces)];
    switch (draw(6)) {
    case 0: text[at] ^= (uint8_t)(1u << draw(8)); return bytes;
    case 1: text[at] = (uint8_t)draw(256); return bytes;
    case 2: memmove(text + at, text + at + length, bytes - at - length); return bytes - length;
    case 3: memmove(text + at + length, text + at, bytes - at); return bytes + length;
    case 4: return draw(8) ? bytes : at;
    default:
        memmove(text + at + strlen(piece), text + at, bytes - at);
        memcpy(text + at, piece, strlen(piece));
        return bytes + strlen(piece);
    }
}

static uint8_t *read_file(const char *path, size_t *bytes) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) exit(2);
    fseek(file, 0, SEEK_END);
    *bytes = (size_t)ftell(file);
    rewind(file);
    uint8_t *data = malloc(*bytes + 1);
    if (data == NULL || fread(data, 1, *bytes, file) != *bytes) exit(2);
    fclose(file);
    return data;
}

static void mutate(const char *path, long count) {
    size_t whole;
    char message[ROOM];
    uint8_t *data = read_file(path, &whole), *text = malloc(2 * whole + 4096);
    long refused = 0;
    if (text == NULL) exit(2);
    for (long turn = 0; turn < count; ++turn) {
        size_t bytes = whole;
        memcpy(text, data, whole);
        for (size_t left = 1 + draw(4); left > 0 && bytes > 0; --left) bytes = change(text, bytes);
        refused += read_one(text, bytes, message) != GOSSAMER_OK;
    }
    printf("%ld of %ld refused\n", refused, count);
    free(text);
    free(data);
}

int main(int argc, char **argv) {
    char message[ROOM];
    if (argc == 4 && strspn(argv[2], "0123456789") == strlen(argv[2])) {
        state = strtoull(argv[3], NULL, 10) * 2654435761u + 88172645463325252u;
        mutate(argv[1], strtol(argv[2], NULL, 10));
        return 0;
    }
    for (int i = 1; i < argc; ++i) {
        size_t bytes;
        uint8_t *data = read_file(argv[i], &bytes);
        int32_t status = read_one(data, bytes, message);
        printf("%d %s\n", (int)status, message);
        free(data);
    }
    return 0;
}

#endif
