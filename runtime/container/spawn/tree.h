/* Steps about the file tree that take a path inside an image, or a mount that is not attached yet. */
#ifndef PYBENCH_SPAWN_TREE_H
#define PYBENCH_SPAWN_TREE_H

#include "child.h"

int attach(const struct child *child, const struct step *step);
int mount_at(const struct step *step);
int set_slot_attributes(const struct child *child, const struct step *step);
int mask(struct child *child, const struct step *step);
int mask_from(const struct step *step);
int make_read_only(const struct step *step);
int write_file(const struct step *step);
int enter_directory(const struct step *step);
int make_symlink(const struct step *step);
int make_node(const struct step *step);

#endif
