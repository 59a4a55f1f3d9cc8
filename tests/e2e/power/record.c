/* Records what a process does to the files below one directory: preloaded (LD_PRELOAD) into walcast and into applications,
 * whose SQLite and whose Rust library call libc for it. What the record says is in recording.rs.
 *
 * WALCAST_RECORD_ROOT  the directory, as realpath gives it
 * WALCAST_RECORD_LOG   the record: appended to by all processes, and locked while an operation and its entry are made, so
 *                      that entries stand in the order of the operations. Who holds the lock knows that nobody is between
 *                      the two: a process is killed only then.
 *
 * An fsync is two entries, begun and done: what is written in between is not made durable by it.
 * Nothing of the wal-index (-shm) is recorded: it is not kept over a power cut. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CREATE = 1, WRITE, TRUNCATE, FALLOCATE, RENAME, UNLINK, MKDIR, RMDIR, SYNC_BEGUN, SYNC_DONE };

struct entry {
    uint32_t magic, kind, pid, name_len;
    uint64_t ino, a, b, data_len; /* a, b: offset and length; of a sync: whether of data alone, and its own number */
    uint32_t other_len, pad;
};

static const char *root, *log_path;
static size_t root_len;
static int log_fd = -1;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))real(#name))
static void *real(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) {
        fprintf(stderr, "record: no %s in libc\n", name);
        abort();
    }
    return found;
}

__attribute__((constructor)) static void begin(void) {
    root = getenv("WALCAST_RECORD_ROOT");
    log_path = getenv("WALCAST_RECORD_LOG");
    if (!root || !log_path) return;
    root_len = strlen(root);
    log_fd = (int)syscall(SYS_openat, AT_FDCWD, log_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (log_fd < 0) {
        perror("record: the log");
        abort();
    }
}

static void lock(void) {
    pthread_mutex_lock(&mutex);
    while (flock(log_fd, LOCK_EX) && errno == EINTR) {}
}

static void unlock(void) {
    int kept = errno;
    flock(log_fd, LOCK_UN);
    pthread_mutex_unlock(&mutex);
    errno = kept;
}

static void append(uint32_t kind, uint64_t ino, uint64_t a, uint64_t b, const char *name, const char *other,
                   const void *data, size_t data_len) {
    int kept = errno;
    struct entry e = {.magic = 0x57435243, .kind = kind, .pid = (uint32_t)getpid(), .ino = ino, .a = a, .b = b,
                      .name_len = name ? (uint32_t)strlen(name) : 0, .other_len = other ? (uint32_t)strlen(other) : 0,
                      .data_len = data_len};
    struct iovec parts[4] = {{&e, sizeof e}, {(void *)name, e.name_len}, {(void *)other, e.other_len}, {(void *)data, data_len}};
    ssize_t want = (ssize_t)(sizeof e + e.name_len + e.other_len + data_len);
    if (syscall(SYS_writev, log_fd, parts, 4) != want) {
        perror("record: write");
        abort();
    }
    errno = kept;
}

static int ends_with(const char *path, const char *end) {
    size_t a = strlen(path), b = strlen(end);
    return a >= b && !strcmp(path + a - b, end);
}

static int is_ours(const char *path) {
    return !strncmp(path, root, root_len) && (path[root_len] == '/' || !path[root_len]) && !ends_with(path, "-shm");
}

static int fd_path(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, PATH_MAX - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return 1;
}

/* True if the descriptor is of a file or directory below the root; its inode and path. A deleted one keeps its inode. */
static int watched(int fd, struct stat *st, char *path) {
    int kept = errno, yes = 0;
    if (log_fd >= 0 && !fstat(fd, st) && (S_ISREG(st->st_mode) || S_ISDIR(st->st_mode)) && fd_path(fd, path)) {
        size_t len = strlen(path), gone = strlen(" (deleted)");
        if (len > gone && ends_with(path, " (deleted)")) path[len - gone] = 0;
        yes = is_ours(path);
    }
    errno = kept;
    return yes;
}

/* The path as the kernel will see it, its directory resolved; false if it is not below the root. */
static int absolute(int dir, const char *path, char *out) {
    char full[PATH_MAX * 2], at[PATH_MAX], resolved[PATH_MAX];
    int kept = errno, yes = 0;
    if (log_fd < 0 || !path) return 0;
    if (path[0] == '/') {
        snprintf(full, sizeof full, "%s", path);
    } else if (dir == AT_FDCWD) {
        if (!getcwd(at, sizeof at)) goto end;
        snprintf(full, sizeof full, "%s/%s", at, path);
    } else {
        if (!fd_path(dir, at)) goto end;
        snprintf(full, sizeof full, "%s/%s", at, path);
    }
    size_t len = strlen(full);
    while (len > 1 && full[len - 1] == '/') full[--len] = 0;
    char *slash = strrchr(full, '/');
    if (!slash || slash == full) goto end;
    *slash = 0;
    if (!realpath(full, resolved)) goto end;
    if (snprintf(out, PATH_MAX, "%s/%s", resolved, slash + 1) >= PATH_MAX) goto end;
    yes = is_ours(out);
end:
    errno = kept;
    return yes;
}

static int opened(int dir, const char *path, int flags, mode_t mode) {
    char name[PATH_MAX];
    struct stat st;
    int making = (flags & O_CREAT) && (flags & O_TMPFILE) != O_TMPFILE, cutting = flags & O_TRUNC;
    if ((!making && !cutting) || !absolute(dir, path, name)) return (int)syscall(SYS_openat, dir, path, flags, mode);
    lock();
    int was_there = !stat(name, &st);
    off_t size = was_there ? st.st_size : 0;
    int fd = (int)syscall(SYS_openat, dir, path, flags, mode);
    if (fd >= 0 && !fstat(fd, &st)) {
        if (!was_there) append(CREATE, st.st_ino, 0, 0, name, NULL, NULL, 0);
        else if (cutting && size > 0) append(TRUNCATE, st.st_ino, 0, 0, name, NULL, NULL, 0);
    }
    unlock();
    return fd;
}

static mode_t mode_of(int flags, va_list more) {
    return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(more, mode_t) : 0;
}

#define OPEN(name)                                                                                                           \
    int name(const char *path, int flags, ...) {                                                                             \
        va_list more;                                                                                                        \
        va_start(more, flags);                                                                                               \
        mode_t mode = mode_of(flags, more);                                                                                  \
        va_end(more);                                                                                                        \
        return opened(AT_FDCWD, path, flags, mode);                                                                          \
    }
OPEN(open)
OPEN(open64)
#define OPENAT(name)                                                                                                         \
    int name(int dir, const char *path, int flags, ...) {                                                                    \
        va_list more;                                                                                                        \
        va_start(more, flags);                                                                                               \
        mode_t mode = mode_of(flags, more);                                                                                  \
        va_end(more);                                                                                                        \
        return opened(dir, path, flags, mode);                                                                               \
    }
OPENAT(openat)
OPENAT(openat64)
int __open_2(const char *path, int flags) { return opened(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return opened(AT_FDCWD, path, flags, 0); }
int creat(const char *path, mode_t mode) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

/* What was written, as the file has it now: for calls that do not say it, or only in pieces. */
static void written_from(int fd, const struct stat *st, const char *name, off_t at, size_t len) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int again = (int)syscall(SYS_openat, AT_FDCWD, link, O_RDONLY | O_CLOEXEC);
    char *bytes = malloc(len ? len : 1);
    if (again < 0 || !bytes || syscall(SYS_pread64, again, bytes, len, at) != (ssize_t)len) {
        perror("record: reading back");
        abort();
    }
    append(WRITE, st->st_ino, (uint64_t)at, len, name, NULL, bytes, len);
    free(bytes);
    syscall(SYS_close, again);
}

/* Where a write without an offset went: before the call if the file has a cursor, at its end if it appends. */
static off_t cursor(int fd, const struct stat *st) {
    struct stat now;
    if ((fcntl(fd, F_GETFL) & O_APPEND) && !fstat(fd, &now)) return now.st_size;
    (void)st;
    return lseek(fd, 0, SEEK_CUR);
}

ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t at) {
    char name[PATH_MAX];
    struct stat st;
    if (!watched(fd, &st, name)) return syscall(SYS_pwrite64, fd, bytes, len, at);
    lock();
    ssize_t done = syscall(SYS_pwrite64, fd, bytes, len, at);
    if (done > 0) append(WRITE, st.st_ino, (uint64_t)at, (uint64_t)done, name, NULL, bytes, (size_t)done);
    unlock();
    return done;
}
ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at) { return pwrite64(fd, bytes, len, at); }

ssize_t write(int fd, const void *bytes, size_t len) {
    char name[PATH_MAX];
    struct stat st;
    if (!watched(fd, &st, name)) return syscall(SYS_write, fd, bytes, len);
    lock();
    off_t at = cursor(fd, &st);
    ssize_t done = syscall(SYS_write, fd, bytes, len);
    if (done > 0) append(WRITE, st.st_ino, (uint64_t)at, (uint64_t)done, name, NULL, bytes, (size_t)done);
    unlock();
    return done;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    char name[PATH_MAX];
    struct stat st;
    if (!watched(fd, &st, name)) return syscall(SYS_writev, fd, parts, count);
    lock();
    off_t at = cursor(fd, &st);
    ssize_t done = syscall(SYS_writev, fd, parts, count);
    if (done > 0) written_from(fd, &st, name, at, (size_t)done);
    unlock();
    return done;
}

#define PWRITEV(call)                                                                                                        \
    if (!watched(fd, &st, name)) return REAL(call)(fd, parts, count, at);                                                    \
    lock();                                                                                                                  \
    ssize_t done = REAL(call)(fd, parts, count, at);                                                                         \
    if (done > 0) written_from(fd, &st, name, at, (size_t)done);                                                             \
    unlock();                                                                                                                \
    return done;
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) {
    char name[PATH_MAX];
    struct stat st;
    PWRITEV(pwritev)
}
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at) {
    char name[PATH_MAX];
    struct stat st;
    PWRITEV(pwritev64)
}

ssize_t copy_file_range(int in, off64_t *in_at, int out, off64_t *out_at, size_t len, unsigned flags) {
    char name[PATH_MAX];
    struct stat st;
    if (!watched(out, &st, name)) return syscall(SYS_copy_file_range, in, in_at, out, out_at, len, flags);
    lock();
    off_t at = out_at ? *out_at : cursor(out, &st);
    ssize_t done = syscall(SYS_copy_file_range, in, in_at, out, out_at, len, flags);
    if (done > 0) written_from(out, &st, name, at, (size_t)done);
    unlock();
    return done;
}

ssize_t sendfile64(int out, int in, off64_t *in_at, size_t len) {
    char name[PATH_MAX];
    struct stat st;
    if (!watched(out, &st, name)) return syscall(SYS_sendfile, out, in, in_at, len);
    lock();
    off_t at = cursor(out, &st);
    ssize_t done = syscall(SYS_sendfile, out, in, in_at, len);
    if (done > 0) written_from(out, &st, name, at, (size_t)done);
    unlock();
    return done;
}
ssize_t sendfile(int out, int in, off_t *in_at, size_t len) { return sendfile64(out, in, in_at, len); }

int ftruncate64(int fd, off64_t len) {
    char name[PATH_MAX];
    struct stat st;
    if (!watched(fd, &st, name)) return (int)syscall(SYS_ftruncate, fd, len);
    lock();
    int failed = (int)syscall(SYS_ftruncate, fd, len);
    if (!failed) append(TRUNCATE, st.st_ino, (uint64_t)len, 0, name, NULL, NULL, 0);
    unlock();
    return failed;
}
int ftruncate(int fd, off_t len) { return ftruncate64(fd, len); }

int fallocate64(int fd, int mode, off64_t at, off64_t len) {
    char name[PATH_MAX];
    struct stat st;
    if (!watched(fd, &st, name)) return (int)syscall(SYS_fallocate, fd, mode, at, len);
    lock();
    int failed = (int)syscall(SYS_fallocate, fd, mode, at, len);
    if (!failed) {
        /* Space alone is nothing that a reader sees; a hole that is punched would be, and nobody here does that. */
        if (mode & ~FALLOC_FL_KEEP_SIZE) abort();
        if (!(mode & FALLOC_FL_KEEP_SIZE)) append(FALLOCATE, st.st_ino, (uint64_t)at, (uint64_t)len, name, NULL, NULL, 0);
    }
    unlock();
    return failed;
}
int fallocate(int fd, int mode, off_t at, off_t len) { return fallocate64(fd, mode, at, len); }
int posix_fallocate64(int fd, off64_t at, off64_t len) {
    int kept = errno, error = fallocate64(fd, 0, at, len) ? errno : 0;
    errno = kept;
    return error;
}
int posix_fallocate(int fd, off_t at, off_t len) { return posix_fallocate64(fd, at, len); }

static int synced(int fd, int call, uint64_t data_alone) {
    char name[PATH_MAX];
    struct stat st;
    if (!watched(fd, &st, name)) return (int)syscall(call, fd);
    static uint64_t last;
    lock();
    uint64_t number = ++last;
    append(SYNC_BEGUN, st.st_ino, data_alone, number, name, NULL, NULL, 0);
    unlock();
    int failed = (int)syscall(call, fd);
    if (!failed) {
        lock();
        append(SYNC_DONE, st.st_ino, data_alone, number, name, NULL, NULL, 0);
        unlock();
    }
    return failed;
}
int fsync(int fd) { return synced(fd, SYS_fsync, 0); }
int fdatasync(int fd) { return synced(fd, SYS_fdatasync, 1); }

static int renamed(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
    char a[PATH_MAX], b[PATH_MAX];
    int ours = absolute(from_dir, from, a), into = absolute(to_dir, to, b);
    if (!ours && !into) return (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
    /* Across the root's edge, or both ways at once: nobody here does that, and the record has no words for it. */
    if (ours != into || (flags & ~1u)) abort();
    lock();
    int failed = (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
    struct stat st;
    if (!failed) append(RENAME, stat(b, &st) ? 0 : st.st_ino, 0, 0, a, b, NULL, 0);
    unlock();
    return failed;
}
int rename(const char *from, const char *to) { return renamed(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int a, const char *from, int b, const char *to) { return renamed(a, from, b, to, 0); }
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) { return renamed(a, from, b, to, flags); }

static int unlinked(int dir, const char *path, int flags) {
    char name[PATH_MAX];
    if (!absolute(dir, path, name)) return (int)syscall(SYS_unlinkat, dir, path, flags);
    lock();
    int failed = (int)syscall(SYS_unlinkat, dir, path, flags);
    if (!failed) append(flags & AT_REMOVEDIR ? RMDIR : UNLINK, 0, 0, 0, name, NULL, NULL, 0);
    unlock();
    return failed;
}
int unlink(const char *path) { return unlinked(AT_FDCWD, path, 0); }
int unlinkat(int dir, const char *path, int flags) { return unlinked(dir, path, flags); }
int rmdir(const char *path) { return unlinked(AT_FDCWD, path, AT_REMOVEDIR); }
int remove(const char *path) {
    struct stat st;
    return unlinked(AT_FDCWD, path, !lstat(path, &st) && S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0);
}

static int made(int dir, const char *path, mode_t mode) {
    char name[PATH_MAX];
    if (!absolute(dir, path, name)) return (int)syscall(SYS_mkdirat, dir, path, mode);
    lock();
    int failed = (int)syscall(SYS_mkdirat, dir, path, mode);
    struct stat st;
    if (!failed) append(MKDIR, stat(name, &st) ? 0 : st.st_ino, 0, 0, name, NULL, NULL, 0);
    unlock();
    return failed;
}
int mkdir(const char *path, mode_t mode) { return made(AT_FDCWD, path, mode); }
int mkdirat(int dir, const char *path, mode_t mode) { return made(dir, path, mode); }
