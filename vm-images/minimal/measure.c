/*
 * Measures what the machine under it can do: `measure KIND` works for a fixed time and prints one line.
 *
 * How many operations fit into a batch is found out first, which is the warm-up, too. Then every batch has
 * that many, so that the spread between batches is the machine's. The line `begin` comes just before the
 * first batch and the result just after the last: whoever reads them can hold the time between the two
 * against the clock that counts in here.
 */
#define _GNU_SOURCE
#include "measure.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum {
    LONGEST_MILLISECONDS = 3600 * 1000,
    MOST_BATCHES = 100,
    LEAST_BATCHES = 3,
    WARMING_SHARE = 4, /* the warm-up takes at least a quarter of the measured time */
    SUB_BUCKETS = 256, /* of each power of two, so that a quantile is known to 0.4 % */
    SUB_BUCKET_BITS = 8,
    POWERS = 64 - SUB_BUCKET_BITS,
};

#define SECOND UINT64_C(1000000000)
#define MILLISECOND UINT64_C(1000000)

static const char usage[] =
    "usage: measure KIND [--milliseconds N] [--batches ABOUT] [--size BYTES] [--directory PATH]\n"
    "                    [--address IPV4 --port N]\n"
    "       measure serve --port N [--address IPV4]\n"
    "       measure limit.processor | limit.memory | limit.processes [--milliseconds N] [--limit N]\n"
    "       measure kinds\n";

static const struct kind *const groups[] = {
    processor_kinds, memory_kinds, kernel_kinds, file_kinds, network_kinds, latency_kinds,
};

uint64_t now(void)
{
    struct timespec instant;
    clock_gettime(CLOCK_MONOTONIC, &instant);
    return (uint64_t)instant.tv_sec * SECOND + (uint64_t)instant.tv_nsec;
}

_Noreturn void fail(const char *call, const char *subject)
{
    int error = errno;
    fprintf(stderr, "measure: %s %s: %s\n", call, subject, strerror(error));
    exit(1);
}

uint64_t next_random(uint64_t *state)
{
    uint64_t mixed = *state += UINT64_C(0x9e3779b97f4a7c15);
    mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ (mixed >> 27)) * UINT64_C(0x94d049bb133111eb);
    return mixed ^ (mixed >> 31);
}

void *filled_buffer(size_t size)
{
    uint64_t *buffer = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t state = size;
    if (buffer == MAP_FAILED)
        fail("mmap", "a buffer");
    for (size_t index = 0; index < size / sizeof *buffer; index++)
        buffer[index] = next_random(&state);
    return buffer;
}

/* Durations, counted by their power of two and the bits that follow the first. */
static uint64_t distribution[POWERS + 1][SUB_BUCKETS];
static uint64_t recorded, longest;

void record_latency(uint64_t nanoseconds)
{
    unsigned power = 0;
    if (nanoseconds >= SUB_BUCKETS)
        power = 64 - SUB_BUCKET_BITS - (unsigned)__builtin_clzll(nanoseconds);
    /* Above the first power the highest bit is always set: half of the buckets of each stay empty. */
    distribution[power][(nanoseconds >> power) % SUB_BUCKETS]++;
    recorded++;
    if (nanoseconds > longest)
        longest = nanoseconds;
}

static void forget_latencies(void)
{
    memset(distribution, 0, sizeof distribution);
    recorded = longest = 0;
}

/* The least duration that `per_mille` of all are not above: the middle of its bucket. */
static uint64_t quantile(uint64_t per_mille)
{
    uint64_t wanted = (recorded * per_mille + 999) / 1000, seen = 0;
    for (unsigned power = 0; power <= POWERS; power++) {
        for (uint64_t bucket = 0; bucket < SUB_BUCKETS; bucket++) {
            seen += distribution[power][bucket];
            if (seen >= wanted && seen > 0)
                return (bucket << power) + ((UINT64_C(1) << power) >> 1);
        }
    }
    return longest;
}

/* A count from the command line, between 1 and `maximum`. */
static uint64_t parse_count(const char *text, uint64_t maximum)
{
    char *end = NULL;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || errno != 0 || number < 1 || number > maximum) {
        fprintf(stderr, "measure: %s is no number from 1 to %" PRIu64 "\n%s", text, maximum, usage);
        exit(EXIT_USAGE);
    }
    return number;
}

static struct options parse_options(int count, char **arguments)
{
    struct options options = {
        .milliseconds = 1000,
        .batches = 10,
        .size = UINT64_C(64) << 20,
        .directory = "/tmp",
    };
    if (count % 2 != 0) {
        fputs(usage, stderr);
        exit(EXIT_USAGE);
    }
    for (int index = 0; index < count; index += 2) {
        const char *name = arguments[index], *value = arguments[index + 1];
        if (strcmp(name, "--milliseconds") == 0) {
            options.milliseconds = parse_count(value, LONGEST_MILLISECONDS);
        } else if (strcmp(name, "--batches") == 0) {
            options.batches = parse_count(value, MOST_BATCHES);
        } else if (strcmp(name, "--size") == 0) {
            options.size = parse_count(value, UINT64_C(1) << 40);
        } else if (strcmp(name, "--limit") == 0) {
            options.limit = parse_count(value, UINT64_C(1) << 50);
        } else if (strcmp(name, "--directory") == 0) {
            options.directory = value;
        } else if (strcmp(name, "--address") == 0) {
            options.address = value;
        } else if (strcmp(name, "--port") == 0) {
            options.port = (uint16_t)parse_count(value, UINT16_MAX);
        } else {
            fputs(usage, stderr);
            exit(EXIT_USAGE);
        }
    }
    return options;
}

/* What was done ahead of the batches, and read or computed in all. */
static uint64_t warmed, checksum;

/* How many operations take about `target` nanoseconds; finding out takes at least `warming`. */
static uint64_t calibrate(const struct kind *kind, uint64_t target, uint64_t warming)
{
    uint64_t operations = 1, began = now();
    for (;;) {
        uint64_t start = now();
        checksum += kind->run(operations);
        uint64_t end = now(), took = end > start ? end - start : 1;
        warmed += operations;
        if (took >= target / 2) {
            double fitting = (double)operations * (double)target / (double)took;
            operations = fitting < 1 ? 1 : (uint64_t)fitting;
            if (end - began >= warming)
                return operations;
        } else {
            operations *= 2;
        }
    }
}

static void report(
    const struct kind *kind, uint64_t operations, const uint64_t *durations, uint64_t done, uint64_t span)
{
    printf("{\"kind\":\"%s\",\"amount\":%" PRIu64 ",\"warming\":%" PRIu64 ",\"span\":%" PRIu64
           ",\"checksum\":%" PRIu64 ",\"batches\":[",
           kind->name, operations * kind->amount, warmed * kind->amount, span, checksum);
    for (uint64_t batch = 0; batch < done; batch++)
        printf("%s%" PRIu64, batch > 0 ? "," : "", durations[batch]);
    printf("]");
    if (kind->timed)
        printf(",\"latency\":{\"n\":%" PRIu64 ",\"p50\":%" PRIu64 ",\"p95\":%" PRIu64 ",\"p99\":%" PRIu64
               ",\"maximum\":%" PRIu64 "}",
               recorded, quantile(500), quantile(950), quantile(990), longest);
    printf("}\n");
    fflush(stdout);
}

/* Make one batch of every two: they were far too short, since something else delayed the warm-up. */
static void join_pairs(uint64_t *durations, uint64_t count)
{
    for (uint64_t pair = 0; pair < count / 2; pair++)
        durations[pair] = durations[2 * pair] + durations[2 * pair + 1];
}

static void measure(const struct kind *kind, const struct options *options)
{
    uint64_t durations[MOST_BATCHES], done = 0;
    uint64_t whole = options->milliseconds * MILLISECOND, batch = whole / options->batches;
    kind->set_up(options);
    uint64_t operations = calibrate(kind, batch, whole / WARMING_SHARE);
    forget_latencies();
    puts("begin");
    fflush(stdout);
    uint64_t began = now(), start = began;
    /* As many as fill the time best, for the machine may turn out faster or slower than in the warm-up. */
    while (done < LEAST_BATCHES || start - began + batch / 2 < whole) {
        if (done == MOST_BATCHES) {
            join_pairs(durations, done);
            operations *= 2;
            done /= 2;
        }
        checksum += kind->run(operations);
        uint64_t end = now();
        durations[done++] = end - start;
        start = end;
    }
    report(kind, operations, durations, done, start - began);
    if (kind->tear_down)
        kind->tear_down();
}

static void list_kinds(void)
{
    for (size_t group = 0; group < sizeof groups / sizeof *groups; group++)
        for (const struct kind *kind = groups[group]; kind->name; kind++)
            puts(kind->name);
}

int main(int count, char **arguments)
{
    const char *name = count > 1 ? arguments[1] : "";
    struct options options = parse_options(count > 1 ? count - 2 : 0, arguments + 2);
    if (strcmp(name, "kinds") == 0) {
        list_kinds();
        return 0;
    }
    if (strcmp(name, "serve") == 0 && options.port != 0)
        serve(&options);
    static const struct {
        const char *name;
        void (*try)(const struct options *);
    } limits[] = {
        {"limit.processor", try_processor},
        {"limit.memory", try_memory},
        {"limit.processes", try_processes},
    };
    for (size_t index = 0; index < sizeof limits / sizeof *limits; index++) {
        if (strcmp(name, limits[index].name) == 0) {
            limits[index].try(&options);
            return 0;
        }
    }
    for (size_t group = 0; group < sizeof groups / sizeof *groups; group++) {
        for (const struct kind *kind = groups[group]; kind->name; kind++) {
            if (strcmp(name, kind->name) == 0) {
                measure(kind, &options);
                return 0;
            }
        }
    }
    fputs(usage, stderr);
    return EXIT_USAGE;
}
