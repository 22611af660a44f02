/* A library for LD_PRELOAD: records fsync and rename calls in order, for src/blob/local_tests.rs. Each line in the
   file that SYNC_RECORD names has the call, the path and, for fsync, the size of the file in bytes. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void record(const char *call, const char *what, long long size) {
    const char *path = getenv("SYNC_RECORD");
    int out = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    if (out < 0) abort();
    dprintf(out, "%s %s %lld\n", call, what, size);
    close(out);
}

/* Recorded only after success, with the size that is durable then. */
int fsync(int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    int result = real(fd);
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    struct stat about;
    if (result == 0 && length > 0 && fstat(fd, &about) == 0) {
        path[length] = 0;
        record("fsync", path, (long long)about.st_size);
    }
    return result;
}

int rename(const char *from, const char *to) {
    int (*real)(const char *, const char *) =
        (int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename");
    int result = real(from, to);
    if (result == 0) record("rename", to, 0);
    return result;
}
