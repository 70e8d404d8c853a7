/* What runs in a test guest:  workload COLD_MIB WARM_MIB COMMON_MIB FORMER_MIB
 *
 * A word of each page of FORMER_MIB is written at the start, and all is freed: the guest has no use for it any more, and the host does not know that.
 * COLD_MIB of memory with random content are written once; WARM_MIB are written again and again, a part every 100 ms;
 * COMMON_MIB are filled with pages that are the same in every guest, so that the host can merge them.
 * Prints a line per second: the seconds since the start, the longest pass over the next part of the warm memory, and how often this guest's kernel
 * killed for lack of memory.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, LINE = 64, MIB = 1 << 20, PAGES_PER_PASS = 2048 };

static uint64_t state = 88172645463325252ull;

static uint64_t next_random(void) {
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static char *take(size_t mib) {
    if (!mib) return NULL;
    char *memory = mmap(NULL, mib * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    return memory;
}

static void fill_random(char *memory, size_t mib, size_t step) {
    for (size_t at = 0; at < mib * MIB; at += step) *(uint64_t *)(memory + at) = next_random();
}

/* Every page differs from the others of this guest, and is the same as its counterpart in every other guest. */
static void fill_common(char *memory, size_t mib) {
    for (size_t at = 0; at < mib * MIB; at += PAGE) {
        memset(memory + at, 0x5a, PAGE);
        *(uint64_t *)(memory + at) = at;
    }
}

static long kills(void) {
    FILE *file = fopen("/proc/vmstat", "r");
    char line[256];
    long count = -1;
    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, "oom_kill ", 9)) count = atol(line + 9);
    if (file) fclose(file);
    return count;
}

int main(int count, char **arguments) {
    if (count != 5) {
        fprintf(stderr, "workload COLD_MIB WARM_MIB COMMON_MIB FORMER_MIB\n");
        return 2;
    }
    size_t cold = strtoul(arguments[1], NULL, 10), warm = strtoul(arguments[2], NULL, 10), common = strtoul(arguments[3], NULL, 10);
    size_t former = strtoul(arguments[4], NULL, 10);
    struct timespec seed;
    clock_gettime(CLOCK_REALTIME, &seed);
    state ^= (uint64_t)seed.tv_nsec * 2654435761u ^ (uint64_t)seed.tv_sec;
    if (former) {
        char *memory = take(former);
        fill_random(memory, former, PAGE);
        munmap(memory, former * MIB);
    }
    if (common) fill_common(take(common), common);
    if (cold) fill_random(take(cold), cold, LINE);
    char *memory = take(warm);
    if (warm) fill_random(memory, warm, LINE);
    double start = now(), told = start, worst = 0;
    size_t pages = warm * (MIB / PAGE), at = 0;
    printf("WORKLOAD holds cold=%zu warm=%zu common=%zu\n", cold, warm, common);
    for (;;) {
        double began = now();
        for (int i = 0; pages && i < PAGES_PER_PASS; i++, at = (at + 1) % pages) *(uint64_t *)(memory + at * PAGE) = next_random();
        double took = now() - began;
        if (took > worst) worst = took;
        if (now() - told >= 1) {
            printf("BEAT %.0f worst_ms=%.1f kills=%ld\n", now() - start, worst * 1e3, kills());
            fflush(stdout);
            told = now();
            worst = 0;
        }
        usleep(100000);
    }
}
