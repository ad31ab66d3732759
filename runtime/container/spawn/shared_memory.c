/* The dumpable flag of the memory that parent and children share.
 *
 * HIDE_EXECUTABLE, or a change of identity (commit_creds in the kernel's cred.c), clears it. While it
 * is clear, our own /proc/self is root's, and no process of a container can open a child's
 * /proc/<pid>/exe, which is our interpreter until execve (CVE-2019-5736). So it is put back when the
 * last child has left our memory, no sooner.
 */
#include "shared_memory.h"

#include <pthread.h>
#include <sys/prctl.h>
#include <unistd.h>

static struct {
    pthread_mutex_t lock;
    pthread_cond_t left;
    int children;
    int dumpable;
} shared = {.lock = PTHREAD_MUTEX_INITIALIZER, .left = PTHREAD_COND_INITIALIZER};

void share_memory(void)
{
    pthread_mutex_lock(&shared.lock);
    /* An ordinary user could not open the id maps of one child while another has cleared the flag. */
    while (shared.children > 0 && geteuid() != 0)
        pthread_cond_wait(&shared.left, &shared.lock);
    if (shared.children++ == 0)
        shared.dumpable = prctl(PR_GET_DUMPABLE);
    pthread_mutex_unlock(&shared.lock);
}

void stop_sharing_memory(void)
{
    pthread_mutex_lock(&shared.lock);
    if (--shared.children == 0 && prctl(PR_GET_DUMPABLE) != shared.dumpable)
        prctl(PR_SET_DUMPABLE, shared.dumpable);
    pthread_cond_signal(&shared.left);
    pthread_mutex_unlock(&shared.lock);
}
