/* Where the lines that were typed are kept for the next prompt: see private.h. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "attach/private.h"

/* $XDG_STATE_HOME, which counts only when it is absolute, else ~/.local/state. */
static bool state_folder(char *path, size_t size) {
    const char *state = getenv("XDG_STATE_HOME");
    const char *home = getenv("HOME");
    int len = -1;
    if (state != NULL && state[0] == '/') {
        len = snprintf(path, size, "%s/lunode", state);
    } else if (home != NULL && home[0] == '/') {
        len = snprintf(path, size, "%s/.local/state/lunode", home);
    }
    return len > 0 && (size_t)len < size;
}

/* Like mkdir -p; what fails shows when the file is opened. */
static void make_folders(char *path) {
    for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        (void)mkdir(path, 0755);
        *slash = '/';
    }
    (void)mkdir(path, 0700);
}

bool attach_history_path(char *path, size_t size) {
    static const char name[] = "/history";
    if (!state_folder(path, size - (sizeof name - 1))) {
        return false;
    }
    make_folders(path);
    memcpy(path + strlen(path), name, sizeof name);
    return true;
}
