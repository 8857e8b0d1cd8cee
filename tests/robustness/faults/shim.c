/* Faults of the disk and of the clock, switched on in a process that was started with this library preloaded.
 *
 * Every call that changes a file below one folder is counted. At the chosen one the process is killed (before it, in the
 * middle of it, after it), or the call fails, alone or with all after it. What glibc writes for its own streams does not
 * pass here (fwrite); a small disk is needed for those. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { NOTHING, KILL_BEFORE, KILL_WITHIN, KILL_AFTER, FAIL_ONCE, FAIL_FROM_HERE, COUNT_ONLY };

static int mode = NOTHING, error_number = 0;
static long at = 0, seen = 0, clock_calls = 0, jump_every = 0;
static double jumps[2] = {0, 0};
static char below[PATH_MAX];
static pid_t owner;

#define REAL(type, name, ...) static type (*real)(__VA_ARGS__); if (!real) real = dlsym(RTLD_NEXT, #name)

void fault_arm(const char *folder, int how, long n, int number) {
    strncpy(below, folder, sizeof below - 1);
    owner = getpid(); at = n; seen = 0; error_number = number; mode = how;
}
void fault_clock(double first, double second, long every) { jumps[0] = first; jumps[1] = second; jump_every = every; }
long fault_count(void) { return seen; }

static int concerns(const char *path) { return !strncmp(path, below, strlen(below)); }
static int concerns_fd(int fd) {
    char link[64], path[PATH_MAX];
    struct stat status;
    if (fstat(fd, &status) || !S_ISREG(status.st_mode)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return concerns(path);
}
/* What is to happen at this call: nothing, or one of the modes. */
static int due(void) {
    if (getpid() != owner) return NOTHING;
    long now = __sync_add_and_fetch(&seen, 1);
    if (mode == COUNT_ONLY || now < at || (now > at && mode != FAIL_FROM_HERE)) return NOTHING;
    return mode;
}
static void die(void) { kill(getpid(), SIGKILL); for (;;) pause(); }

#define AROUND(involved, call) do {                                       \
    int what = mode && (involved) ? due() : NOTHING;                      \
    if (what == KILL_BEFORE || what == KILL_WITHIN) die();                \
    if (what >= FAIL_ONCE) { errno = error_number; return -1; }           \
    __typeof__(call) result = (call);                                     \
    if (what == KILL_AFTER) die();                                        \
    return result;                                                        \
} while (0)
/* A write that is cut in two leaves its first half behind. */
#define WRITING(call, half) do {                                          \
    int what = mode && concerns_fd(fd) ? due() : NOTHING;                 \
    if (what == KILL_BEFORE) die();                                       \
    if (what == KILL_WITHIN) { half; die(); }                             \
    if (what >= FAIL_ONCE) { half; errno = error_number; return -1; }     \
    ssize_t result = (call);                                              \
    if (what == KILL_AFTER) die();                                        \
    return result;                                                        \
} while (0)

ssize_t write(int fd, const void *data, size_t size) {
    REAL(ssize_t, write, int, const void *, size_t);
    WRITING(real(fd, data, size), (void)!real(fd, data, what == KILL_WITHIN ? size / 2 : 0));
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t place) {
    REAL(ssize_t, pwrite, int, const void *, size_t, off_t);
    WRITING(real(fd, data, size, place), (void)!real(fd, data, what == KILL_WITHIN ? size / 2 : 0, place));
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t place) { return pwrite(fd, data, size, place); }
ssize_t writev(int fd, const struct iovec *pieces, int count) {
    REAL(ssize_t, writev, int, const struct iovec *, int);
    WRITING(real(fd, pieces, count), (void)!real(fd, pieces, what == KILL_WITHIN ? (count + 1) / 2 : 0));
}
int fsync(int fd) { REAL(int, fsync, int); AROUND(concerns_fd(fd), real(fd)); }
int rename(const char *from, const char *to) {
    REAL(int, rename, const char *, const char *);
    AROUND(concerns(to), real(from, to));
}
int renameat(int a, const char *from, int b, const char *to) {
    REAL(int, renameat, int, const char *, int, const char *);
    AROUND(concerns(to), real(a, from, b, to));
}
int mkdir(const char *path, mode_t rights) {
    REAL(int, mkdir, const char *, mode_t);
    AROUND(concerns(path), real(path, rights));
}
/* Taking away never fails for want of room, but a process can be killed at it. */
#define REMOVING(involved, call) do {                                     \
    int kills = mode >= KILL_BEFORE && mode <= KILL_AFTER;                \
    if (!kills) return (call);                                            \
    AROUND(involved, call);                                               \
} while (0)
int unlink(const char *path) { REAL(int, unlink, const char *); REMOVING(concerns(path), real(path)); }
int rmdir(const char *path) { REAL(int, rmdir, const char *); REMOVING(concerns(path), real(path)); }
int unlinkat(int folder, const char *path, int flags) {
    REAL(int, unlinkat, int, const char *, int);
    REMOVING(path[0] != '/' || concerns(path), real(folder, path, flags));
}
static int creates(const char *path, int flags) { return (flags & O_CREAT) && concerns(path); }
int open(const char *path, int flags, ...) {
    REAL(int, open, const char *, int, ...);
    va_list rest; va_start(rest, flags); int rights = va_arg(rest, int); va_end(rest);
    AROUND(creates(path, flags), real(path, flags, rights));
}
int open64(const char *path, int flags, ...) {
    REAL(int, open64, const char *, int, ...);
    va_list rest; va_start(rest, flags); int rights = va_arg(rest, int); va_end(rest);
    AROUND(creates(path, flags), real(path, flags, rights));
}

/* The wall clock goes to and fro between two distances from the true one. */
static double offset(void) {
    return jump_every ? jumps[__sync_add_and_fetch(&clock_calls, 1) / jump_every % 2] : 0;
}
int clock_gettime(clockid_t which, struct timespec *now) {
    REAL(int, clock_gettime, clockid_t, struct timespec *);
    int result = real(which, now);
    if (!result && which == CLOCK_REALTIME) now->tv_sec += (time_t)offset();
    return result;
}
time_t time(time_t *place) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (place) *place = now.tv_sec;
    return now.tv_sec;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec; now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}
