/* Reading a whole file. */
#ifndef LUNODE_BASE_FILE_H
#define LUNODE_BASE_FILE_H

#include "base/buf.h"
#include "base/err.h"

/* What file_read takes at the most, in bytes. */
enum { FILE_MAX = 64 << 20 };

/* Replaces `out` by what the file holds. Does not wait: anything but a regular file (a pipe, a
 * device, a folder) is an error. errno is ENOENT or ENOTDIR when there is no such file. */
bool file_read(const char *path, struct buf *out, struct err *err);

#endif
