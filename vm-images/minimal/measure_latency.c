/* How long a small request takes whose time has come: what a service's clients feel of its neighbours. */
#define _GNU_SOURCE
#include "measure.h"

#include <errno.h>
#include <time.h>

enum {
    PERIOD = 2000 * 1000, /* nanoseconds between the times at which a request is due */
    ROUNDS = 2000,        /* of computing */
    LINE = 64,            /* bytes: one access for each line of a cache */
    MEMORY = 128 * 1024,  /* bytes, of which every line is read and written */
};

static uint64_t *memory;

static void set_up_latency(const struct options *options)
{
    (void)options;
    memory = filled_buffer(MEMORY);
}

static void sleep_until(uint64_t instant)
{
    struct timespec due = {
        .tv_sec = (time_t)(instant / UINT64_C(1000000000)),
        .tv_nsec = (long)(instant % UINT64_C(1000000000)),
    };
    int error;
    while ((error = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL)) == EINTR)
        ;
    if (error != 0) {
        errno = error;
        fail("clock_nanosleep", "until a request is due");
    }
}

static uint64_t answer(uint64_t seed)
{
    uint64_t state = seed, checksum = 0;
    for (int round = 0; round < ROUNDS; round++)
        checksum += next_random(&state);
    for (size_t place = 0; place < MEMORY / sizeof *memory; place += LINE / sizeof *memory)
        checksum += memory[place]++;
    return checksum;
}

/*
 * Requests are due at fixed times. Each takes from that time until it is answered: waking up, computing,
 * and going through a little memory. One that would be due while another is still being answered is
 * left out, so that no two of them overlap.
 */
static uint64_t run_latency(uint64_t operations)
{
    uint64_t checksum = 0, due = now();
    while (operations-- > 0) {
        do
            due += PERIOD;
        while (due <= now());
        sleep_until(due);
        checksum += answer(due);
        record_latency(now() - due);
    }
    return checksum;
}

const struct kind latency_kinds[] = {
    {"latency", 1, set_up_latency, run_latency, NULL, 1},
    {0},
};
