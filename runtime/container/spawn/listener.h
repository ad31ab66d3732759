/* The parent's side of a filter whose calls are answered by a supervisor (seccomp_unotify(2)). */
#ifndef PYBENCH_LISTENER_H
#define PYBENCH_LISTENER_H

/* Takes the listener that the child has sent on its link, if it has; without waiting.
 *
 * It replaces the descriptor `place`, so that the supervisor knows ahead of the start by which number
 * the container's calls will come, and is added to the supervisor's epoll descriptor.
 * Returns NULL, or the call that failed with errno. */
const char *take_listener(int link, int place, int supervisor);

#endif
