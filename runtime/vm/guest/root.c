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

void enter_disk_root(void)
{
    char type[16], access[16];
    const char *root = LOWER;
    FILE *description = fopen(DESCRIPTION, "re");
    if (description == NULL && errno == ENOENT)
        return;
    if (description == NULL)
        fail("open", DESCRIPTION);
    int fields = fscanf(description, "%15s %15s", type, access);
    fclose(description);
    if (fields != 2) {
        errno = EBADMSG;
        fail("read", DESCRIPTION);
    }
    /* Only for the disk's node; init mounts a /dev of the new root afterwards. */
    mount_at("devtmpfs", "/dev", "devtmpfs", MS_NOSUID | MS_NOEXEC, NULL);
    mount_at(DISK, LOWER, type, MS_RDONLY | INERT, NULL);
    if (umount2("/dev", MNT_DETACH) != 0)
        fail("umount2", "/dev");
    if (strcmp(access, "writable") == 0) {
        mount_writable();
        root = MERGED;
    }
    /* The initramfs is the first of all mounts and cannot be left by pivot_root(2): it is covered. */
    if (chdir(root) != 0 || mount(".", "/", NULL, MS_MOVE, NULL) != 0 || chroot(".") != 0 || chdir("/") != 0)
        fail("chroot", root);
}
