#define _GNU_SOURCE
#include "tree.h"

#include "raw_call.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define LONGEST_PATH 4096
/* MS_BIND and MS_REC; <sys/mount.h> and <linux/mount.h> exclude each other */
#define BIND 0x1000
#define BIND_RECURSIVELY 0x4000

/* An image's symbolic links lead nowhere but into the image once it is the root; the links in /proc
 * that stand for our own descriptors would lead out, and are refused. */
static long open_inside(const char *path, uint64_t flags)
{
    struct open_how how = {.flags = flags | O_CLOEXEC, .resolve = RESOLVE_NO_MAGICLINKS};
    return CALL(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));
}

/* mkdir -p of everything before the last slash of `path`, and of the whole where `whole`. */
static int make_directories(const char *path, int whole)
{
    char prefix[LONGEST_PATH];
    uint32_t length = 0;
    for (; path[length]; length++) {
        if (length + 1 >= sizeof(prefix))
            return -ENAMETOOLONG;
        if (path[length] == '/' && length > 0) {
            prefix[length] = '\0';
            long result = CALL(SYS_mkdir, prefix, 0755);
            if (result < 0 && result != -EEXIST)
                return (int)result;
        }
        prefix[length] = path[length];
    }
    if (!whole)
        return 0;
    prefix[length] = '\0';
    long result = CALL(SYS_mkdir, prefix, 0755);
    return result < 0 && result != -EEXIST ? (int)result : 0;
}

static long open_mount_point(const char *path, int64_t make)
{
    long place = open_inside(path, O_PATH);
    if (place != -ENOENT || make == MAKE_NOTHING)
        return place;
    long result = make_directories(path, make == MAKE_DIRECTORY);
    if (result == 0 && make == MAKE_FILE)
        result = CALL(SYS_mknod, path, S_IFREG | 0644, 0);
    return result < 0 ? result : open_inside(path, O_PATH);
}

int attach(const struct child *child, const struct step *step)
{
    long place = open_mount_point(step->text[0], step->number[1]);
    if (place < 0)
        return (int)place;
    long result = CALL(SYS_move_mount, child->slots[step->number[0]], "", place, "",
                       MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
    CALL(SYS_close, place);
    return (int)result;
}

/* In the container's own namespace already, where one call does what takes the way by a slot nine. A link that
 * stands for a descriptor leads to another mount namespace, where the kernel refuses. */
int mount_at(const struct step *step)
{
    return (int)CALL(SYS_mount, NULL, step->text[2], step->text[0], step->number[0], step->text[1]);
}

static long clone_mount(int mount, const char *path, unsigned flags)
{
    return CALL(SYS_open_tree, mount, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | flags);
}

int set_slot_attributes(const struct child *child, const struct step *step)
{
    struct mount_attr attributes = {
        .attr_set = (uint64_t)step->number[1],
        .attr_clr = (uint64_t)step->number[2],
        .propagation = (uint64_t)step->number[3],
    };
    unsigned flags = AT_EMPTY_PATH | (step->number[4] ? AT_RECURSIVE : 0);
    return (int)CALL(SYS_mount_setattr, child->slots[step->number[0]], "", flags, &attributes,
                     sizeof(attributes));
}

/* Puts the mount in a slot over a place, or where `again`, when it is over another one, a copy of it. A detached
 * mount that is never attached is taken down by the kernel in execve, for which it takes 0.1 ms. */
static long cover(int slot, const char *path, int again)
{
    long place = open_inside(path, O_PATH);
    if (place < 0)
        return place;
    long result = again ? clone_mount(slot, "", 0) : slot;
    if (result >= 0) {
        int mount = (int)result;
        result = CALL(SYS_move_mount, mount, "", place, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
        if (again)
            CALL(SYS_close, mount);
    }
    CALL(SYS_close, place);
    return result;
}

/* A file gets the null device on top of it, a directory the empty directory. The first of each kind gets what is
 * in the slot, the others are copies of the first by mount(2), which does in one call, and in a fifth of the
 * time, what takes five. It follows links as the slot's way does, but for those that stand for descriptors: they
 * lead to other mount namespaces, where mount(2) refuses. Whatever it refuses is done in the slot's way. The
 * kind is looked at first, since a refusal takes the kernel 0.1 ms. */
int mask(struct child *child, const struct step *step)
{
    const char *path = step->text[0];
    struct stat state;
    long result = CALL(SYS_newfstatat, AT_FDCWD, path, &state, 0);
    if (result == -ENOENT || result == -ENOTDIR)
        return 0; /* nothing to hide */
    if (result < 0)
        return (int)result;
    int kind = S_ISDIR(state.st_mode);
    if (child->covered[kind] && CALL(SYS_mount, child->covered[kind], path, NULL, BIND, NULL) == 0)
        return 0;
    result = cover(child->slots[step->number[kind]], path, child->covered[kind] != NULL);
    if (result == 0 && !child->covered[kind])
        child->covered[kind] = path;
    return (int)result;
}

/* What hides it is of the same kind: files of /proc are files wherever there is a /proc of this kernel. */
int mask_from(const struct step *step)
{
    struct stat state;
    long result = CALL(SYS_mount, step->text[1], step->text[0], NULL, BIND, NULL);
    if (result == -ENOENT && CALL(SYS_newfstatat, AT_FDCWD, step->text[0], &state, 0) == -ENOENT)
        return 0; /* nothing to hide */
    return (int)result;
}

/* A read-only copy of what is there on top of itself. */
int make_read_only(const struct step *step)
{
    const char *path = step->text[0];
    struct mount_attr attributes = {.attr_set = (uint64_t)step->number[0]};
    long result = CALL(SYS_mount, path, path, NULL, BIND | BIND_RECURSIVELY, NULL);
    if (result == -ENOENT || result == -ENOTDIR)
        return 0; /* nothing to protect */
    if (result == 0)
        result = CALL(SYS_mount_setattr, AT_FDCWD, path, AT_RECURSIVE, &attributes, sizeof(attributes));
    return (int)result;
}

int write_file(const struct step *step)
{
    long file = open_inside(step->text[0], O_WRONLY);
    if (file < 0)
        return (int)file;
    long written = CALL(SYS_write, file, step->text[1], step->length[1]);
    CALL(SYS_close, file);
    if (written < 0)
        return (int)written;
    return written == (long)step->length[1] ? 0 : -EIO;
}

int enter_directory(const struct step *step)
{
    long directory = open_inside(step->text[0], O_PATH | O_DIRECTORY);
    if (directory == -ENOENT && step->number[0]) {
        long made = make_directories(step->text[0], 1);
        if (made < 0)
            return (int)made;
        directory = open_inside(step->text[0], O_PATH | O_DIRECTORY);
    }
    if (directory < 0)
        return (int)directory;
    long result = CALL(SYS_fchdir, directory);
    CALL(SYS_close, directory);
    return (int)result;
}

/* What an image has in the place of a node or a link is replaced, whatever it is. */
static long without_old(const char *path, long result)
{
    if (result != -EEXIST)
        return result;
    result = CALL(SYS_unlink, path);
    return result < 0 ? result : -EAGAIN;
}

int make_symlink(const struct step *step)
{
    long result = without_old(step->text[1], CALL(SYS_symlink, step->text[0], step->text[1]));
    if (result == -EAGAIN)
        result = CALL(SYS_symlink, step->text[0], step->text[1]);
    return (int)result;
}

int make_node(const struct step *step)
{
    const char *path = step->text[0];
    long result = make_directories(path, 0);
    if (result == 0)
        result = without_old(path, CALL(SYS_mknod, path, step->number[0], step->number[1]));
    if (result == -EAGAIN)
        result = CALL(SYS_mknod, path, step->number[0], step->number[1]);
    /* The mask of file modes is the harness's; and by lchown no link is followed. */
    if (result == 0)
        result = CALL(SYS_lchown, path, step->number[2], step->number[3]);
    if (result == 0)
        result = CALL(SYS_chmod, path, step->number[0] & 07777);
    return (int)result;
}
