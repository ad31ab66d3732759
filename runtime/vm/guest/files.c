/*
 * The files that a scenario gives to its workload. The host appended them to the initramfs, each called by its
 * number, for an image's disk cannot be written to and file systems of init's own may be where they
 * belong. As in a container nobody inside can change one, and neither remove nor rename it: each is a mount.
 */
#define _GNU_SOURCE
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#define STORE "/.pybench/files"
#define PIECE (1 << 20)

static int store = -1;

void hold_files(void)
{
    store = open(STORE, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (store < 0)
        fail("open", STORE);
}

/* Everything before the last slash. */
static void make_parents(const char *path)
{
    char *prefix = strdup(path);
    if (prefix == NULL)
        fail("strdup", path);
    for (char *slash = strchr(prefix + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(prefix, 0755) != 0 && errno != EEXIST)
            fail("mkdir", prefix);
        *slash = '/';
    }
    free(prefix);
}

static void place_file(const char *name, const char *path, mode_t mode)
{
    make_parents(path);
    int source = openat(store, name, O_RDONLY | O_CLOEXEC);
    if (source < 0)
        fail("open", name);
    /* What the image has there may be linked elsewhere as well, and keeps its content. */
    if (unlink(path) != 0 && errno != ENOENT)
        fail("unlink", path);
    int target = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (target < 0)
        fail("open", path);
    ssize_t copied;
    while ((copied = sendfile(target, source, NULL, PIECE)) > 0)
        ;
    if (copied < 0)
        fail("sendfile", path);
    if (fchmod(target, mode) != 0)
        fail("fchmod", path);
    close(target);
    close(source);
    /* The guest's memory held it twice. */
    if (unlinkat(store, name, 0) != 0)
        fail("unlinkat", name);
    if (mount(path, path, NULL, MS_BIND, NULL) != 0 ||
        mount(NULL, path, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL) != 0)
        fail("mount", path);
}

void place_files(char **files)
{
    umask(022);
    for (size_t index = 0; files[2 * index] != NULL && files[2 * index + 1] != NULL; index++) {
        char name[24];
        snprintf(name, sizeof name, "%zu", index);
        place_file(name, files[2 * index], (mode_t)strtoul(files[2 * index + 1], NULL, 8));
    }
    close(store);
    seal_root();
}
