/* Opens files of an artifact's folder: regular ones, and none that a link leads out to. */
#include "internal.h"
#include "platform.h"

/* `folder`/`name`, or NULL; to be freed. */
static char *joined(const char *folder, const char *name) {
    size_t first = strlen(folder), second = strlen(name) + 1;
    char *path = malloc(first + 1 + second);
    if (path == NULL) return NULL;
    memcpy(path, folder, first);
    path[first] = '/';
    memcpy(path + first + 1, name, second);
    return path;
}

/* Whether `path` is a file of `folder` itself; both are free of links. */
static int lies_in(const char *path, const char *folder) {
    size_t length = strlen(folder);
    while (length > 0 && folder[length - 1] == '/') --length;
    if (strlen(path) <= length || path[length] != '/') return 0;
    for (size_t i = 0; i < length; ++i) {
        if (path[i] != folder[i]) return 0;
    }
    for (const char *rest = path + length + 1; *rest != 0; ++rest) {
        if (*rest == '/') return 0;
    }
    return 1;
}

int gossamer_open_file(const char *path) {
    return open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* else a pipe would wait for a writer */
}

int gossamer_open_in_folder(const char *folder, const char *name) {
    char *path = joined(folder, name);
    char *real = path == NULL ? NULL : realpath(path, NULL);
    char *root = real == NULL ? NULL : realpath(folder, NULL);
    int file = -1;
    if (root != NULL) file = lies_in(real, root) ? gossamer_open_file(real) : GOSSAMER_FILE_OUTSIDE;
    free(root);
    free(real);
    free(path);
    return file;
}
