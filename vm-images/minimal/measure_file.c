/*
 * A file on the disk under a directory, one request after the other. Reads and writes go past the page
 * cache (O_DIRECT, open(2)), which would be measured otherwise; they fall on blocks that are allocated.
 */
#define _GNU_SOURCE
#include "measure.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SEQUENTIAL = 1 << 20, RANDOM = 4096 };

static int file = -1;
static unsigned char *block;
static uint64_t blocks_of_file, next_block, random_state;

static void transfer(ssize_t (*call)(int, void *, size_t, off_t), const char *name, size_t size, uint64_t number)
{
    ssize_t done = call(file, block, size, (off_t)(number * size));
    if (done < 0)
        fail(name, "the file");
    if ((size_t)done != size) {
        errno = EIO;
        fail(name, "a whole block of the file");
    }
}

/* pwrite with the type of pread. */
static ssize_t write_at(int descriptor, void *data, size_t size, off_t offset)
{
    return pwrite(descriptor, data, size, offset);
}

/* The file has no name by the time it is used, so that nothing is left of it however this ends. */
static void open_file(const struct options *options, size_t size, int flags)
{
    char path[4096];
    int length = snprintf(path, sizeof path, "%s/.measure-%ld", options->directory, (long)getpid());
    if (length < 0 || (size_t)length >= sizeof path) {
        errno = ENAMETOOLONG;
        fail("open", options->directory);
    }
    blocks_of_file = options->size / SEQUENTIAL;
    if (blocks_of_file == 0) {
        errno = EINVAL;
        fail("--size", "is less than 1 MiB");
    }
    file = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file < 0)
        fail("open", path);
    block = filled_buffer(SEQUENTIAL);
    int direct = flags ? open(path, O_RDWR | O_CLOEXEC | flags) : file, error = errno;
    unlink(path);
    errno = error;
    if (direct < 0)
        fail("open past the page cache (O_DIRECT)", options->directory);
    for (uint64_t number = 0; number < blocks_of_file; number++)
        transfer(write_at, "write", SEQUENTIAL, number);
    if (fsync(file) != 0)
        fail("fsync", "the file");
    if (direct != file) {
        close(file);
        file = direct;
    }
    blocks_of_file *= SEQUENTIAL / size;
    next_block = 0;
    random_state = 1;
}

static void set_up_sequential(const struct options *options)
{
    open_file(options, SEQUENTIAL, O_DIRECT);
}

static void set_up_random(const struct options *options)
{
    open_file(options, RANDOM, O_DIRECT);
}

static void set_up_cached(const struct options *options)
{
    open_file(options, RANDOM, 0);
}

static void close_file(void)
{
    close(file);
    munmap(block, SEQUENTIAL);
}

static uint64_t following_block(void)
{
    uint64_t number = next_block;
    next_block = (next_block + 1) % blocks_of_file;
    return number;
}

static uint64_t run_sequential_read(uint64_t operations)
{
    uint64_t checksum = 0;
    while (operations-- > 0) {
        transfer(pread, "read", SEQUENTIAL, following_block());
        checksum += block[0];
    }
    return checksum;
}

static uint64_t run_sequential_write(uint64_t operations)
{
    uint64_t checksum = 0;
    while (operations-- > 0) {
        block[0]++;
        transfer(write_at, "write", SEQUENTIAL, following_block());
        checksum += block[0];
    }
    return checksum;
}

static uint64_t run_random_read(uint64_t operations)
{
    uint64_t checksum = 0;
    while (operations-- > 0) {
        uint64_t number = next_random(&random_state) % blocks_of_file, start = now();
        transfer(pread, "read", RANDOM, number);
        record_latency(now() - start);
        checksum += block[0];
    }
    return checksum;
}

static uint64_t run_random_write(uint64_t operations)
{
    uint64_t checksum = 0;
    while (operations-- > 0) {
        uint64_t number = next_random(&random_state) % blocks_of_file, start = now();
        block[0]++;
        transfer(write_at, "write", RANDOM, number);
        record_latency(now() - start);
        checksum += block[0];
    }
    return checksum;
}

/* What a database does at each commit: change a block, and wait until the disk says that it has it. */
static uint64_t run_fsync(uint64_t operations)
{
    uint64_t checksum = 0;
    while (operations-- > 0) {
        uint64_t start = now();
        block[0]++;
        transfer(write_at, "write", RANDOM, following_block());
        if (fsync(file) != 0)
            fail("fsync", "the file");
        record_latency(now() - start);
        checksum += block[0];
    }
    return checksum;
}

const struct kind file_kinds[] = {
    {"file.sequential.read", SEQUENTIAL, set_up_sequential, run_sequential_read, close_file, 0},
    {"file.sequential.write", SEQUENTIAL, set_up_sequential, run_sequential_write, close_file, 0},
    {"file.random.read", 1, set_up_random, run_random_read, close_file, 1},
    {"file.random.write", 1, set_up_random, run_random_write, close_file, 1},
    {"file.fsync", 1, set_up_cached, run_fsync, close_file, 1},
    {0},
};
