/* Grows in a control group, as a guest does whose programs fill memory:  grow MOST_MIB HUGE FILE
 *
 * Uses huge pages if HUGE is 1, as QEMU does for a guest's memory, and none if it is 0. FILE holds numbers that
 * are shared with a driver:
 *   0  pages that this program should hold; the driver sets it. Less than it holds: the rest is given back
 *   1  pages that it holds
 *   2  a heartbeat, which counts all the time
 *   3  the longest pause between two parts of 64 pages, in microseconds; the driver may set it to 0
 *   4  whether a part is being filled, and 5 since when: microseconds of CLOCK_MONOTONIC
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, MIB = 1 << 20, PART = 64 };

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000ull + t.tv_nsec / 1000;
}

int main(int count, char **arguments) {
    if (count != 4) {
        fprintf(stderr, "grow MOST_MIB HUGE FILE\n");
        return 2;
    }
    size_t most = strtoul(arguments[1], NULL, 10) * MIB;
    int file = open(arguments[3], O_RDWR);
    volatile uint64_t *shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    char *memory = mmap(NULL, most, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (shared == MAP_FAILED || memory == MAP_FAILED) {
        perror("mmap");
        return 1;
    }
    madvise(memory, most, atoi(arguments[2]) ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    for (;;) {
        uint64_t goal = shared[0], held = shared[1];
        if (held == goal || goal > most / PAGE) {
            shared[2]++;
            usleep(1000);
        } else if (held > goal) {
            madvise(memory + goal * PAGE, (held - goal) * PAGE, MADV_DONTNEED);
            shared[1] = goal;
        } else {
            uint64_t began = shared[5] = now();
            shared[4] = 1;
            for (int page = 0; page < PART && held < goal; page++, held++) {
                *(uint64_t *)(memory + held * PAGE) = held + 1;
                shared[1] = held + 1;
                shared[2]++;
            }
            uint64_t took = now() - began;
            shared[4] = 0;
            if (took > shared[3]) shared[3] = took;
        }
    }
}
