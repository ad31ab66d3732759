/* The root file system of a guest whose image is a disk. */
#ifndef PYBENCH_GUEST_ROOT_H
#define PYBENCH_GUEST_ROOT_H

/*
 * Makes the image's disk the root, if the image has one: what was in the initramfs is out of reach
 * from then on. Modules have to be loaded before; nothing may be mounted yet.
 *
 * Returns NULL, or with errno set what it failed on.
 */
const char *enter_disk_root(void);

#endif
