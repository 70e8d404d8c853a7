/* Program of a guest in the squeeze, and in the comparison with the simulator:
 *   demand BEGIN BASE_MIB BURST_MIB PERIOD_S DUTY_PERCENT PHASE_S FILES_MIB READ_KIB_S [GROWTH_MIB_S TOUCHES LEAK_KIB_S LEAK_MIB
 *          [COLD_MIB WARM_S [SEED [SLICED]]]]
 *
 * Holds BASE_MIB. Holds BURST_MIB more during the first DUTY_PERCENT of every PERIOD_S, counted from BEGIN (seconds since the epoch) less
 * PHASE_S. With the environment variable `day`, STEP_S,MIB,MIB,..., it holds the next MIB more in each STEP_S from BEGIN on, instead of
 * bursts, and then begins again. A growth by more than a slot's growth counts as a burst.
 * Reads the first FILES_MIB of /dev/vda at the start, and random blocks of them at READ_KIB_S. Touches TOUCHES (1000) random pages of its
 * memory in every slot of 100 ms. A slot that ends late is lost work. If killed for lack of memory, it starts again after 30 s.
 * GROWTH_MIB_S limits growth. Then a slot is due during growth, too, and every eighth word of memory is random, so that a compressed swap
 * cannot shrink it much. Without it, growth is as fast as possible. LEAK_KIB_S are filled and never touched again, up to LEAK_MIB.
 * COLD_MIB are filled at the start. 20 random pages of them are touched in a slot. From WARM_S on (0: never) they are touched like the rest.
 * Cold memory is the same in all guests with the same SEED (default 0), as in guests of one image; the host can merge it.
 * SLICED: freed memory lies in pieces of 1 MiB between the pieces of BASE_MIB.
 * Prints a line per second: seconds since BEGIN, MiB held, seconds of work lost, seconds of the last burst's growth, kills. Then, since
 * the start: seconds, slots in time, bursts, KiB of swap in use now, OOM kills, and slots by the largest ms of their touches.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, MIB = 1 << 20, BLOCK = 65536, TOUCHES = 1000, COLD_TOUCHES = 20, RESTART_SECONDS = 30, EDGES = 28, SAMPLES = 1024 };

static const double SLOT = 0.1;

static const double EDGE_MS[EDGES] = {1,   2,   4,   6,   8,   10,  12.5, 16,  20,  25,   32,   40,   50,   64,
                                      80,  100, 125, 160, 200, 250, 320,  400, 500, 800, 1250, 2000, 5000, 1e9};

struct Told {
    double lost, filled, began;
    unsigned long in_time, bursts, took[EDGES];
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

static size_t stride = PAGE; /* from one random word to the next */

static void fill(char *memory, size_t bytes) {
    for (size_t at = 0; at < bytes; at += stride) *(uint64_t *)(memory + at) = next_random();
}

static long field(const char *file, const char *name) {
    FILE *opened = fopen(file, "r");
    char line[256];
    long value = -1;
    size_t length = strlen(name);
    while (opened && fgets(line, sizeof line, opened))
        if (!strncmp(line, name, length)) {
            value = atol(line + length);
            break;
        }
    if (opened) fclose(opened);
    return value;
}

static void tell(const struct Told *told, double since, size_t held) {
    printf("DEMAND %.1f held=%zu lost=%.1f filled=%.2f kills=%d", since, held / MIB, told->lost, told->filled, told->kills);
    printf(" ran=%.1f met=%lu bursts=%lu", clock_of(CLOCK_MONOTONIC) - told->began, told->in_time, told->bursts);
    printf(" swap=%ld oom=%ld took=", field("/proc/meminfo", "SwapTotal:") - field("/proc/meminfo", "SwapFree:"), field("/proc/vmstat", "oom_kill "));
    for (int edge = 0; edge < EDGES; edge++)
        if (told->took[edge]) printf("%g:%lu,", EDGE_MS[edge], told->took[edge]);
    printf("\n");
    fflush(stdout);
}

static double step_seconds;
static size_t day[SAMPLES], samples;

static void read_day(const char *text) {
    char *at = "";
    if (text) step_seconds = strtod(text, &at);
    while (*at == ',' && samples < SAMPLES) day[samples++] = strtoul(at + 1, &at, 10) * MIB;
}

static void serve(int count, char **arguments, struct Told *told) {
    double begin = atof(arguments[1]), period = atof(arguments[4]), duty = atof(arguments[5]) / 100, phase = atof(arguments[6]);
    size_t base = strtoul(arguments[2], NULL, 10) * MIB, burst = strtoul(arguments[3], NULL, 10) * MIB, most = burst, grown = 0;
    size_t blocks = strtoul(arguments[7], NULL, 10) * (MIB / BLOCK), reads = strtoul(arguments[8], NULL, 10);
    size_t growth = count > 9 ? strtoul(arguments[9], NULL, 10) * MIB : 0;
    int touches = count > 10 ? atoi(arguments[10]) : TOUCHES;
    double leak = count > 11 ? atof(arguments[11]) * 1024 : 0, leaks = count > 12 ? atof(arguments[12]) * MIB : 0, leaked = 0;
    size_t cold = count > 13 ? strtoul(arguments[13], NULL, 10) * MIB : 0;
    double warms = count > 14 ? atof(arguments[14]) : 0;
    if (growth) stride = 64;
    static char buffer[BLOCK];
    for (size_t at = 0; at < samples; at++)
        if (day[at] > most) most = day[at];
    char *held = take(base), *rarely = take(cold), *more = take(most);
    double from = 0, due_kib = 0, said = -1e9;
    int disk = open("/dev/vda", O_RDONLY);
    if (disk >= 0) posix_fadvise(disk, 0, 0, POSIX_FADV_RANDOM); /* no more than what is asked for is read */
    for (size_t at = 0; disk >= 0 && at < blocks; at++)
        if (pread(disk, buffer, BLOCK, at * BLOCK) < 0) break;
    if (count > 16 && atoi(arguments[16])) {
        char *between = take(burst);
        madvise(held, base, MADV_NOHUGEPAGE); /* a huge page would hold two neighbours of one kind */
        madvise(between, burst, MADV_NOHUGEPAGE);
        for (size_t at = 0; at < base || at < burst; at += MIB) {
            if (at < base) fill(held + at, MIB);
            if (at < burst) fill(between + at, MIB);
        }
        munmap(between, burst);
    } else fill(held, base);
    if (count > 15) state ^= strtoull(arguments[15], NULL, 10);
    fill(rarely, cold);
    for (double slot = clock_of(CLOCK_MONOTONIC);; slot += SLOT) {
        double now = clock_of(CLOCK_MONOTONIC), since = clock_of(CLOCK_REALTIME) - begin;
        if (now < slot) usleep((slot - now) * 1e6);
        double at = since + phase;
        at -= period * (long)(at / period);
        size_t wanted = since < 0 ? 0 : samples ? day[(size_t)(since / step_seconds) % samples] : at < period * duty ? burst : 0;
        if (wanted < grown) {
            madvise(more + wanted, grown - wanted, MADV_DONTNEED);
            grown = wanted;
        }
        size_t step = growth ? growth * SLOT : MIB, steps = 0;
        if (wanted <= grown) from = 0;
        else if (!from && wanted >= grown + step) from = now;
        while (grown < wanted && (growth ? !steps++ : clock_of(CLOCK_MONOTONIC) < slot + SLOT)) {
            size_t part = wanted - grown < step ? wanted - grown : step;
            fill(more + grown, part);
            grown += part;
            if (grown == wanted && from) {
                told->filled = clock_of(CLOCK_MONOTONIC) - from;
                told->bursts++;
                from = 0;
            }
        }
        for (double wants = leak * (since > 0 ? since : 0); leaked + MIB <= (wants < leaks ? wants : leaks); leaked += MIB) fill(take(MIB), MIB);
        int warm = warms && since >= warms;
        size_t live = base + grown + (warm ? cold : 0);
        for (int i = 0; live && i < touches; i++) {
            size_t page = (next_random() % (live / PAGE)) * PAGE;
            (*(page < base ? held + page : page < base + grown ? more + (page - base) : rarely + (page - base - grown)))++;
        }
        for (int i = 0; cold && !warm && i < COLD_TOUCHES; i++) rarely[(next_random() % (cold / PAGE)) * PAGE]++;
        for (due_kib += reads * SLOT; disk >= 0 && blocks && due_kib >= BLOCK / 1024; due_kib -= BLOCK / 1024)
            if (pread(disk, buffer, BLOCK, (next_random() % blocks) * BLOCK) < 0) break;
        double ended = clock_of(CLOCK_MONOTONIC), late = ended - (slot + SLOT), took = (ended - (now > slot ? now : slot)) * 1e3;
        int filling = grown < wanted && !growth, edge = 0;
        while (took > EDGE_MS[edge]) edge++;
        told->took[edge]++;
        told->in_time += late <= 0;
        if (late > 0 && !filling) told->lost += late;
        if (late > 0) slot += late;
        if (since - said >= 1) {
            tell(told, since, base + grown + cold + (size_t)leaked);
            said = since;
        }
    }
}

int main(int count, char **arguments) {
    if (count < 9 || count > 17) {
        fprintf(stderr, "demand BEGIN BASE_MIB BURST_MIB PERIOD_S DUTY_PERCENT PHASE_S FILES_MIB READ_KIB_S"
                        " [GROWTH_MIB_S TOUCHES LEAK_KIB_S LEAK_MIB [COLD_MIB WARM_S [SEED [SLICED]]]]\n");
        return 2;
    }
    struct Told *told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (told == MAP_FAILED) return 1;
    read_day(getenv("day"));
    told->began = clock_of(CLOCK_MONOTONIC);
    for (;;) {
        pid_t child = fork();
        if (child == 0) serve(count, arguments, told);
        waitpid(child, NULL, 0);
        told->kills++;
        told->lost += RESTART_SECONDS;
        printf("DEMAND killed at %.1f\n", clock_of(CLOCK_REALTIME) - atof(arguments[1]));
        fflush(stdout);
        sleep(RESTART_SECONDS);
    }
}
