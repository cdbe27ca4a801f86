/* Preloaded into a process: remembers how files were before each write that is not synced yet.
 *
 * Before a write to a file below $UNSYNCED_WATCH its old bytes and size are appended to
 * $UNSYNCED_UNDO/<inode>; fsync and fdatasync empty that. After a kill the records, applied from
 * the last to the first, give what a disk may hold after a power cut that lost every such write.
 * A record: offset, old size, count of old bytes (int64 each), then the bytes.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void *next(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (found == NULL) abort();
    return found;
}

#define REAL(type, name) \
    static type *real; \
    if (real == NULL) real = (type *)next(name)

typedef ssize_t pwrite_type(int, const void *, size_t, off_t);
typedef ssize_t write_type(int, const void *, size_t);
typedef int truncate_type(int, off_t);
typedef int sync_type(int);

static void put(int file, const void *bytes, size_t count) {
    REAL(write_type, "write");
    if (real(file, bytes, count) != (ssize_t)count) abort();
}

static int watched(int file, struct stat *facts) {
    const char *root = getenv("UNSYNCED_WATCH");
    char link[64], path[4096];
    if (root == NULL || fstat(file, facts) != 0 || !S_ISREG(facts->st_mode)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return strncmp(path, root, strlen(root)) == 0;
}

static int undo_of(const struct stat *facts, int flags) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%ju", getenv("UNSYNCED_UNDO"), (uintmax_t)facts->st_ino);
    int undo = open(path, flags | O_CLOEXEC, 0600);
    if (undo < 0 && (flags & O_CREAT)) abort();
    return undo;
}

/* The old bytes from `offset` on, `count` of them at most: what is to be written over. */
static void remember(int file, off_t offset, size_t count) {
    struct stat facts;
    if (!watched(file, &facts)) return;
    int64_t there = facts.st_size - offset;
    there = there < 0 ? 0 : there < (int64_t)count ? there : (int64_t)count;
    char *old = malloc(there + 1);
    if (old == NULL) abort();
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    int reader = open(path, O_RDONLY | O_CLOEXEC); /* the file itself may be open for writing only */
    if (reader < 0 || pread(reader, old, there, offset) != there) abort();
    close(reader);
    int64_t head[3] = {offset, facts.st_size, there};
    pthread_mutex_lock(&lock);
    int undo = undo_of(&facts, O_WRONLY | O_CREAT | O_APPEND);
    put(undo, head, sizeof head);
    put(undo, old, there);
    close(undo);
    pthread_mutex_unlock(&lock);
    free(old);
}

static void forget(int file) {
    struct stat facts;
    if (!watched(file, &facts)) return;
    pthread_mutex_lock(&lock);
    int undo = undo_of(&facts, O_WRONLY);
    if (undo >= 0) {
        if (ftruncate(undo, 0) != 0) abort();
        close(undo);
    }
    pthread_mutex_unlock(&lock);
}

ssize_t pwrite(int file, const void *bytes, size_t count, off_t offset) {
    REAL(pwrite_type, "pwrite");
    remember(file, offset, count);
    return real(file, bytes, count, offset);
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off_t offset) {
    REAL(pwrite_type, "pwrite64");
    remember(file, offset, count);
    return real(file, bytes, count, offset);
}

ssize_t write(int file, const void *bytes, size_t count) {
    REAL(write_type, "write");
    off_t offset = lseek(file, 0, SEEK_CUR);
    if (offset >= 0) remember(file, offset, count);
    return real(file, bytes, count);
}

int ftruncate64(int file, off_t size) {
    REAL(truncate_type, "ftruncate64");
    struct stat facts;
    if (watched(file, &facts) && size < facts.st_size) remember(file, size, facts.st_size - size);
    else remember(file, size, 0);
    return real(file, size);
}

int fsync(int file) {
    REAL(sync_type, "fsync");
    int done = real(file);
    if (done == 0) forget(file);
    return done;
}

int fdatasync(int file) {
    REAL(sync_type, "fdatasync");
    int done = real(file);
    if (done == 0) forget(file);
    return done;
}
