/*
 * An image too large for an initramfs is a disk, and the initramfs holds no more than this init and
 * the modules. /.pybench/disk says what to do with it: file system and access in one line, such as
 * `erofs read-only` or `erofs writable` (see vm-images/forms.py).
 */
#define _GNU_SOURCE
#include "guest.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define DESCRIPTION "/.pybench/disk"
#define DISK "/dev/vda"
#define LOWER "/.pybench/lower"
#define LAYER "/.pybench/layer"
#define MERGED "/.pybench/merged"

/* As in the container: nothing of an image is a device or gives privilege. */
#define INERT (MS_NODEV | MS_NOSUID)

/* What is written goes to memory, above the disk. */
static void mount_writable(void)
{
    mount_at("tmpfs", LAYER, "tmpfs", INERT, "mode=755");
    if (mkdir(LAYER "/upper", 0755) != 0 || mkdir(LAYER "/work", 0755) != 0)
        fail("mkdir", LAYER);
    mount_at("overlay", MERGED, "overlay", INERT,
             "lowerdir=" LOWER ",upperdir=" LAYER "/upper,workdir=" LAYER "/work");
}

static char type[16], access_to_it[16];
static int sealed;

/* Zero where the image is no disk. */
static int read_description(void)
{
    FILE *description = fopen(DESCRIPTION, "re");
    if (description == NULL && errno == ENOENT)
        return 0;
    if (description == NULL)
        fail("open", DESCRIPTION);
    int fields = fscanf(description, "%15s %15s", type, access_to_it);
    fclose(description);
    if (fields != 2) {
        errno = EBADMSG;
        fail("read", DESCRIPTION);
    }
    return 1;
}

int disk_is_writable(void)
{
    return read_description() && strcmp(access_to_it, "writable") == 0;
}

void enter_disk_root(int layered)
{
    const char *root = LOWER;
    int writable = disk_is_writable();
    if (type[0] == '\0')
        return;
    /* Only for the disk's node; init mounts a /dev of the new root afterwards. */
    mount_at("devtmpfs", "/dev", "devtmpfs", MS_NOSUID | MS_NOEXEC, NULL);
    mount_at(DISK, LOWER, type, MS_RDONLY | INERT, NULL);
    if (umount2("/dev", MNT_DETACH) != 0)
        fail("umount2", "/dev");
    if (writable || layered) {
        mount_writable();
        root = MERGED;
        sealed = !writable;
    }
    /* The initramfs is the first of all mounts and cannot be left by pivot_root(2): it is covered. */
    if (chdir(root) != 0 || mount(".", "/", NULL, MS_MOVE, NULL) != 0 || chroot(".") != 0 || chdir("/") != 0)
        fail("chroot", root);
}

void seal_root(void)
{
    if (sealed && mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | INERT, NULL) != 0)
        fail("mount", "/");
}
