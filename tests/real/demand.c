/* What runs in a test guest that is compared with a simulated one:
 *   demand BEGIN BASE_MIB BURST_MIB PERIOD_S DUTY_PERCENT PHASE_S FILES_MIB READ_KIB_S
 *
 * Holds BASE_MIB, and BURST_MIB more during the first DUTY_PERCENT of every PERIOD_S, counted from BEGIN (seconds since the epoch) less
 * PHASE_S; a burst is filled as fast as it goes. Reads random blocks of the first FILES_MIB of /dev/vda, all of it at the start and
 * READ_KIB_S from then on. Touches 1000 random pages of what it holds in every slot of 100 ms; work is lost when a slot ends late.
 * Killed for lack of memory, it is started again after 30 s.
 * Prints a line per second: seconds since BEGIN, MiB held, seconds of work lost since the start, the last burst's seconds to fill, kills.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, MIB = 1 << 20, BLOCK = 65536, TOUCHES = 1000, RESTART_SECONDS = 30 };

static const double SLOT = 0.1;

struct Told {
    double lost, filled;
    int kills;
};

static uint64_t state = 88172645463325252ull;

static uint64_t next_random(void) {
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static double clock_of(clockid_t which) {
    struct timespec t;
    clock_gettime(which, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static char *take(size_t bytes) {
    char *memory = mmap(NULL, bytes ? bytes : PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) exit(1);
    return memory;
}

static void fill(char *memory, size_t bytes) {
    for (size_t at = 0; at < bytes; at += PAGE) *(uint64_t *)(memory + at) = next_random();
}

static void serve(char **arguments, struct Told *told) {
    double begin = atof(arguments[1]), period = atof(arguments[4]), duty = atof(arguments[5]) / 100, phase = atof(arguments[6]);
    size_t base = strtoul(arguments[2], NULL, 10) * MIB, burst = strtoul(arguments[3], NULL, 10) * MIB, grown = 0;
    size_t blocks = strtoul(arguments[7], NULL, 10) * (MIB / BLOCK), reads = strtoul(arguments[8], NULL, 10);
    static char buffer[BLOCK];
    char *held = take(base), *more = NULL;
    double from = 0, due_kib = 0, said = -1e9;
    int disk = open("/dev/vda", O_RDONLY);
    if (disk >= 0) posix_fadvise(disk, 0, 0, POSIX_FADV_RANDOM); /* no more than what is asked for is read */
    for (size_t at = 0; disk >= 0 && at < blocks; at++)
        if (pread(disk, buffer, BLOCK, at * BLOCK) < 0) break;
    fill(held, base);
    for (double slot = clock_of(CLOCK_MONOTONIC);; slot += SLOT) {
        double now = clock_of(CLOCK_MONOTONIC), since = clock_of(CLOCK_REALTIME) - begin;
        if (now < slot) usleep((slot - now) * 1e6);
        double at = since + phase;
        at -= period * (long)(at / period);
        int wanted = burst && since >= 0 && at < period * duty;
        if (wanted && !more) {
            more = take(burst);
            from = now;
        }
        if (!wanted && more) {
            munmap(more, burst);
            more = NULL;
            grown = 0;
        }
        while (more && grown < burst && clock_of(CLOCK_MONOTONIC) < slot + SLOT) {
            size_t part = burst - grown < MIB ? burst - grown : MIB;
            fill(more + grown, part);
            grown += part;
            if (grown == burst) told->filled = clock_of(CLOCK_MONOTONIC) - from;
        }
        size_t live = base + grown;
        for (int i = 0; live && i < TOUCHES; i++) {
            size_t page = (next_random() % (live / PAGE)) * PAGE;
            (*(page < base ? held + page : more + (page - base)))++;
        }
        for (due_kib += reads * SLOT; disk >= 0 && blocks && due_kib >= BLOCK / 1024; due_kib -= BLOCK / 1024)
            if (pread(disk, buffer, BLOCK, (next_random() % blocks) * BLOCK) < 0) break;
        double late = clock_of(CLOCK_MONOTONIC) - (slot + SLOT);
        int filling = more && grown < burst;
        if (late > 0 && !filling) told->lost += late;
        if (late > 0) slot += late;
        if (since - said >= 1) {
            printf("DEMAND %.1f held=%zu lost=%.1f filled=%.2f kills=%d\n", since, live / MIB, told->lost, told->filled, told->kills);
            fflush(stdout);
            said = since;
        }
    }
}

int main(int count, char **arguments) {
    if (count != 9) {
        fprintf(stderr, "demand BEGIN BASE_MIB BURST_MIB PERIOD_S DUTY_PERCENT PHASE_S FILES_MIB READ_KIB_S\n");
        return 2;
    }
    struct Told *told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (told == MAP_FAILED) return 1;
    for (;;) {
        pid_t child = fork();
        if (child == 0) serve(arguments, told);
        waitpid(child, NULL, 0);
        told->kills++;
        told->lost += RESTART_SECONDS;
        printf("DEMAND killed at %.1f\n", clock_of(CLOCK_REALTIME) - atof(arguments[1]));
        fflush(stdout);
        sleep(RESTART_SECONDS);
    }
}
