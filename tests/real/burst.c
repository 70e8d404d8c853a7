/* Bursts of memory use in a test guest:  burst HELD_MIB FLOOR_MIB MIB_PER_SECOND HOLD_SECONDS REST_SECONDS
 *
 * Holds HELD_MIB all the time. Then, again and again: rests REST_SECONDS and up to one more; fills memory at that speed until only
 * FLOOR_MIB are available in the guest, so that its kernel need not kill; holds it for HOLD_SECONDS; gives it back.
 * Prints what is available (KiB) after each MiB or so: "FILL number available"; and "FULL number available", "REST number available".
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { MIB = 1 << 20, PAGE = 4096, MOST_MIB = 4096 };

static uint64_t state = 88172645463325252ull;

static uint64_t next_random(void) {
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static char *take_mib(void) {
    char *memory = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) exit(1);
    for (size_t at = 0; at < MIB; at += PAGE) *(uint64_t *)(memory + at) = next_random();
    return memory;
}

static long available_kib(void) {
    FILE *file = fopen("/proc/meminfo", "r");
    char line[256];
    long kib = 0;
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "MemAvailable: %ld", &kib) == 1) break;
    if (file) fclose(file);
    return kib;
}

int main(int count, char **arguments) {
    if (count != 6) {
        fprintf(stderr, "burst HELD_MIB FLOOR_MIB MIB_PER_SECOND HOLD_SECONDS REST_SECONDS\n");
        return 2;
    }
    long held = atol(arguments[1]), floor_kib = atol(arguments[2]) * 1024, speed = atol(arguments[3]);
    long hold = atol(arguments[4]), rest = atol(arguments[5]);
    static char *taken[MOST_MIB];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    state ^= (uint64_t)now.tv_nsec * 2654435761u ^ (uint64_t)now.tv_sec;
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (long at = 0; at < held; at++) take_mib();
    printf("BURSTS begin\n");
    for (int number = 1;; number++) {
        usleep(rest * 1000000 + next_random() % 1000000);
        int filled = 0;
        long available = available_kib();
        while (filled < MOST_MIB && available > floor_kib + 1024) {
            taken[filled++] = take_mib();
            available = available_kib();
            printf("FILL %d %ld\n", number, available);
            usleep(1000000 / speed);
        }
        printf("FULL %d %ld\n", number, available);
        sleep(hold);
        printf("REST %d %ld\n", number, available_kib());
        while (filled) munmap(taken[--filled], MIB);
    }
}
