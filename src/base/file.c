/* Reading a whole file: see file.h. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static const char too_large[] = "too large to read";

static bool fail(const char *path, struct err *err) {
    int number = errno;
    err_set(err, "%s: %s", path, strerror(number));
    errno = number;
    return false;
}

static bool refuse(const char *path, const char *why, struct err *err) {
    err_set(err, "%s: %s", path, why);
    errno = EINVAL;
    return false;
}

/* It may grow meanwhile: what is read is what was there at some moment. */
static bool read_all(int fd, const char *path, struct buf *out, struct err *err) {
    for (;;) {
        if (!buf_reserve(out, 4096) || out->len > FILE_MAX) {
            return refuse(path, too_large, err);
        }
        ssize_t n = read(fd, out->data + out->len, out->cap - out->len);
        if (n == 0) {
            return true;
        }
        if (n < 0 && errno != EINTR) {
            return fail(path, err);
        }
        out->len += n > 0 ? (size_t)n : 0;
    }
}

bool file_read(const char *path, struct buf *out, struct err *err) {
    struct stat file;
    out->len = 0;
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        return fail(path, err);
    }
    bool ok = fstat(fd, &file) == 0 || fail(path, err);
    ok = ok && (S_ISREG(file.st_mode) || refuse(path, "not a file", err));
    ok = ok && (file.st_size <= FILE_MAX || refuse(path, too_large, err));
    ok = ok && read_all(fd, path, out, err);
    int number = errno;
    close(fd);
    errno = number;
    return ok;
}
