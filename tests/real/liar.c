/* What runs in a guest whose balloon driver lies:  liar SEED
 *
 * Drives the virtio balloon itself, by its ports, once the kernel's driver has been taken out: answers each question for statistics with what
 * cannot be (nothing, the largest numbers, more free than there is, tags that nobody knows, half a record), and writes sizes into the device that
 * the guest does not have. Follows no wish of the host's. Prints a line for each ten lies.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096, STATS_QUEUE = 2, STATS_FEATURE = 1 << 1, PAGES = 4096, TAGS = 10, RECORD = 10, KINDS = 9 };
enum { GUEST_FEATURES = 4, QUEUE_PFN = 8, QUEUE_SIZE = 12, QUEUE_SELECT = 14, QUEUE_NOTIFY = 16, STATUS = 18, ACTUAL = 24 };
enum { ACKNOWLEDGED = 1, DRIVER = 2, DRIVER_OK = 4 };

static uint64_t state = 88172645463325252ull;

static uint64_t next_random(void) {
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static void die(const char *what) {
    printf("LIAR cannot: %s\n", what);
    exit(1);
}

/* The device's folder in /sys; a balloon with ports is device 1002 of vendor 1af4. */
static const char *balloon(void) {
    static char path[300];
    DIR *folder = opendir("/sys/bus/pci/devices");
    for (struct dirent *one; folder && (one = readdir(folder));) {
        char text[16] = "";
        snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/device", one->d_name);
        FILE *file = fopen(path, "r");
        int found = file && fgets(text, sizeof text, file) && !strncmp(text, "0x1002", 6);
        if (file) fclose(file);
        snprintf(path, sizeof path, "/sys/bus/pci/devices/%s", one->d_name);
        if (found) return path;
    }
    die("no balloon");
    return "";
}

/* Its first port; the device may read memory from then on. */
static unsigned enabled(const char *folder) {
    char path[400];
    unsigned long first = 0;
    uint16_t command = 0;
    snprintf(path, sizeof path, "%s/resource", folder);
    FILE *file = fopen(path, "r");
    if (!file || fscanf(file, "%lx", &first) != 1) die("no ports");
    fclose(file);
    snprintf(path, sizeof path, "%s/config", folder);
    int config = open(path, O_RDWR);
    if (config < 0 || pread(config, &command, 2, 4) != 2) die("no configuration");
    command |= 7; /* ports, memory, and that it may read memory */
    if (pwrite(config, &command, 2, 4) != 2) die("it cannot be enabled");
    close(config);
    return first;
}

/* Two neighbouring pages that are neighbours in the machine's memory, too, and where that is. */
static char *neighbours(uint64_t *where) {
    char *memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    int map = open("/proc/self/pagemap", O_RDONLY);
    uint64_t before = 0, entry;
    if (memory == MAP_FAILED || map < 0 || mlock(memory, PAGES * PAGE)) die("no memory");
    memset(memory, 0, PAGES * PAGE);
    for (long page = 0; page < PAGES; page++) {
        if (pread(map, &entry, 8, ((uintptr_t)memory / PAGE + page) * 8) != 8) die("nothing is known of memory");
        entry &= (1ull << 55) - 1;
        if (page && entry == before + 1) {
            *where = before * PAGE;
            return memory + (page - 1) * PAGE;
        }
        before = entry;
    }
    die("no neighbours");
    return NULL;
}

static uint64_t lie(int kind, int tag) {
    switch (kind) {
        case 0: return 0;
        case 1: return ~0ull;
        case 2: return 1ull << 63;
        case 3: return next_random();
        case 4: return tag == 5 ? 256ull << 20 : 255ull << 20; /* all is free */
        case 5: return tag == 5 ? 1 : 1ull << 40;              /* more is free than there is */
        case 6: return (uint64_t)-(int64_t)(next_random() % 1000);
        default: return next_random() % (1ull << 36);
    }
}

/* The length of what is said. */
static unsigned lies(char *record) {
    int kind = next_random() % KINDS;
    for (int tag = 0; tag < TAGS; tag++) {
        uint16_t name = kind == 7 ? next_random() : kind == 8 ? 5 : tag;
        uint64_t value = lie(kind, tag);
        memcpy(record + tag * RECORD, &name, 2);
        memcpy(record + tag * RECORD + 2, &value, 8);
    }
    return TAGS * RECORD - (next_random() % 8 ? 0 : next_random() % 12);
}

int main(int count, char **arguments) {
    if (count > 1) state ^= strtoull(arguments[1], NULL, 10) * 0x9E3779B97F4A7C15ull;
    unsigned port = enabled(balloon());
    uint64_t where = 0;
    char *queue = neighbours(&where);
    if (iopl(3)) die("no right to ports");
    outb(0, port + STATUS);
    outb(ACKNOWLEDGED | DRIVER, port + STATUS);
    outl(STATS_FEATURE, port + GUEST_FEATURES);
    outw(STATS_QUEUE, port + QUEUE_SELECT);
    unsigned size = inw(port + QUEUE_SIZE), used = (size * 16 + 6 + 2 * size + PAGE - 1) / PAGE * PAGE;
    if (!size || used != PAGE || used + 6 + 8 * size > used + PAGE / 2) die("another size of queue");
    outl(where / PAGE, port + QUEUE_PFN);
    outb(ACKNOWLEDGED | DRIVER | DRIVER_OK, port + STATUS);

    volatile uint16_t *available = (uint16_t *)(queue + size * 16), *done = (uint16_t *)(queue + used);
    char *record = queue + used + PAGE / 2;
    for (uint16_t told = 0;; told++) {
        struct { uint64_t address; uint32_t length; uint16_t flags, next; } one = {where + used + PAGE / 2, lies(record), 0, 0};
        memcpy(queue, &one, sizeof one);
        available[2 + told % size] = 0;
        __sync_synchronize();
        available[1] = told + 1;
        __sync_synchronize();
        outw(STATS_QUEUE, port + QUEUE_NOTIFY);
        if (told % 10 == 9) printf("LIAR told %d\n", told + 1), fflush(stdout);
        if (next_random() % 3 == 0) {
            uint32_t sizes[] = {0, 1, ~0u, next_random(), next_random() % (1u << 17)};
            outl(sizes[next_random() % 5], port + ACTUAL);
        }
        while (done[1] != (uint16_t)(told + 1)) usleep(20000);
    }
}
