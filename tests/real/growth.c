/* How a guest's kernel ends a program that wants more than there is:  growth TIMES KEEP_MIB FILES_MIB
 *
 * That often: a program fills memory, MiB by MiB, until it is killed. FILES_MIB of /dev/vda are read again and again beside it, by another
 * program that keeps them in the page cache, so that the kernel finds something to reclaim; KEEP_MIB are held all the time by a third.
 * Prints for each: MiB that were filled, the seconds for the first half of them, the seconds for the whole, and from the moment at which
 * filling first took ten times as long as usual (nothing is free any more) to the kill.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, MIB = 1 << 20, MOST_MIB = 4096, BLOCK = 65536 };

struct Progress {
    int filled;
    double at[MOST_MIB];
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void *shared(size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) exit(1);
    return memory;
}

static void fill(char *memory, size_t bytes) {
    for (size_t at = 0; at < bytes; at += PAGE) *(uint64_t *)(memory + at) = at + 1;
}

static void hide_from_the_killer(void) {
    FILE *file = fopen("/proc/self/oom_score_adj", "w");
    if (file) {
        fputs("-1000", file);
        fclose(file);
    }
}

static pid_t beside(void (*program)(size_t), size_t mib) {
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        hide_from_the_killer();
        program(mib);
    }
    return child;
}

static void keep(size_t mib) {
    char *memory = mmap(NULL, mib * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) exit(1);
    fill(memory, mib * MIB);
    for (;;) pause();
}

static void read_files(size_t mib) {
    static char buffer[BLOCK];
    int disk = open("/dev/vda", O_RDONLY);
    for (;;)
        for (size_t at = 0; at < mib * (MIB / BLOCK); at++)
            if (pread(disk, buffer, BLOCK, at * BLOCK) < 0) exit(1);
}

static void grow(struct Progress *progress) {
    FILE *file = fopen("/proc/self/oom_score_adj", "w");
    if (file) {
        fputs("1000", file);
        fclose(file);
    }
    for (int mib = 0; mib < MOST_MIB; mib++) {
        char *memory = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) exit(1);
        fill(memory, MIB);
        progress->at[mib] = now();
        progress->filled = mib + 1;
    }
}

int main(int count, char **arguments) {
    if (count != 4) {
        fprintf(stderr, "growth TIMES KEEP_MIB FILES_MIB\n");
        return 2;
    }
    struct Progress *progress = shared(sizeof *progress);
    int times = atoi(arguments[1]);
    size_t held = strtoul(arguments[2], NULL, 10), files = strtoul(arguments[3], NULL, 10);
    if (held) beside(keep, held);
    if (files) beside(read_files, files);
    sleep(5);
    for (int number = 1; number <= times; number++) {
        progress->filled = 0;
        double began = now();
        pid_t child = fork();
        if (child == 0) {
            grow(progress);
            exit(0);
        }
        waitpid(child, NULL, 0);
        double ended = now();
        int filled = progress->filled, half = filled / 2;
        if (half < 8) continue;
        double usual = (progress->at[half - 1] - progress->at[0]) / (half - 1), stalled = progress->at[filled - 1];
        for (int mib = half; mib < filled; mib++)
            if (progress->at[mib] - progress->at[mib - 1] > 10 * usual) {
                stalled = progress->at[mib - 1];
                break;
            }
        printf("GROWTH %d filled=%d half=%.3f whole=%.3f stalled=%.3f\n", number, filled, progress->at[half - 1] - began, ended - began, ended - stalled);
        fflush(stdout);
        sleep(3);
    }
    printf("GROWTH done\n");
    fflush(stdout);
    for (;;) pause();
}
