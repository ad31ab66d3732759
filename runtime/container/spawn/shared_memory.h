/* What a parent shares with its children until their execve (CLONE_VM), seen from the parent. */
#ifndef PYBENCH_SHARED_MEMORY_H
#define PYBENCH_SHARED_MEMORY_H

/* Around each clone, and once the child has left our memory; for an ordinary user it may wait. */
void share_memory(void);
void stop_sharing_memory(void);

#endif
