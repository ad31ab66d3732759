/* Processor and memory: work that asks nothing of the kernel. */
#include "measure.h"

#include <errno.h>
#include <stddef.h>

enum { ROUNDS = 1000, CHUNK = 1 << 20 };

/* The width of the widest register that every x86-64 and aarch64 has, twice. */
typedef uint64_t vector __attribute__((vector_size(32)));

static uint64_t integer_state;

static void set_up_integer(const struct options *options)
{
    (void)options;
    integer_state = 1;
}

/* Multiplications, shifts and additions, each of which needs the one before. */
static uint64_t run_integer(uint64_t operations)
{
    uint64_t checksum = 0;
    for (uint64_t round = 0; round < operations * ROUNDS; round++)
        checksum += next_random(&integer_state);
    return checksum;
}

static double float_state;

static void set_up_float(const struct options *options)
{
    (void)options;
    float_state = 0.5;
}

/* The logistic map, r = 3.75: two multiplications and a subtraction, which stay between 0 and 1. */
static uint64_t run_float(uint64_t operations)
{
    union {
        double number;
        uint64_t bits;
    } state = {.number = float_state};
    for (uint64_t round = 0; round < operations * ROUNDS; round++)
        state.number = 3.75 * state.number * (1.0 - state.number);
    float_state = state.number;
    return state.bits;
}

const struct kind processor_kinds[] = {
    {"cpu", ROUNDS, set_up_integer, run_integer, NULL, 0},
    {"cpu.float", ROUNDS, set_up_float, run_float, NULL, 0},
    {0},
};

/* Each operation goes on where the last one stopped, so that batches shorter than the buffer reach all of it. */
static unsigned char *source, *target;
static size_t chunks, position;

static size_t next_chunk(void)
{
    size_t offset = position * CHUNK;
    position = (position + 1) % chunks;
    return offset;
}

static void set_up_buffer(const struct options *options)
{
    chunks = options->size / CHUNK;
    if (chunks == 0) {
        errno = EINVAL;
        fail("--size", "is less than 1 MiB");
    }
    position = 0;
    source = filled_buffer(chunks * CHUNK);
}

static void set_up_two_buffers(const struct options *options)
{
    struct options half = *options;
    half.size = options->size / 2;
    set_up_buffer(&half);
    target = filled_buffer(chunks * CHUNK);
}

static uint64_t run_read(uint64_t operations)
{
    vector first = {0}, second = {0};
    while (operations-- > 0) {
        const vector *chunk = (const vector *)(source + next_chunk());
        for (size_t index = 0; index < CHUNK / sizeof *chunk; index += 2) {
            first += chunk[index];
            second += chunk[index + 1];
        }
    }
    first += second;
    return first[0] + first[1] + first[2] + first[3];
}

static uint64_t run_write(uint64_t operations)
{
    vector value = {1, 2, 3, 4};
    while (operations-- > 0) {
        vector *chunk = (vector *)(source + next_chunk());
        for (size_t index = 0; index < CHUNK / sizeof *chunk; index += 2) {
            chunk[index] = value;
            chunk[index + 1] = value;
            /* Else the compiler calls memset, and the kinds differ in more than they should. */
            __asm__ volatile("" : : : "memory");
        }
        value += (vector){1, 1, 1, 1};
    }
    return value[0];
}

static uint64_t run_copy(uint64_t operations)
{
    uint64_t checksum = 0;
    while (operations-- > 0) {
        size_t offset = next_chunk();
        const vector *from = (const vector *)(source + offset);
        vector *to = (vector *)(target + offset);
        for (size_t index = 0; index < CHUNK / sizeof *from; index += 2) {
            to[index] = from[index];
            to[index + 1] = from[index + 1];
            __asm__ volatile("" : : : "memory");
        }
        checksum += to[0][0];
    }
    return checksum;
}

const struct kind memory_kinds[] = {
    {"memory.read", CHUNK, set_up_buffer, run_read, NULL, 0},
    {"memory.write", CHUNK, set_up_buffer, run_write, NULL, 0},
    {"memory.copy", CHUNK, set_up_two_buffers, run_copy, NULL, 0},
    {0},
};
