/* System calls without libc, for the child's side of a spawn; see child.h. */
#ifndef PYBENCH_RAW_CALL_H
#define PYBENCH_RAW_CALL_H

#ifndef __x86_64__
#error "clone_child and raw_call are written for x86-64; another processor needs its own two functions"
#endif

/* No libc wrapper: they store errno in memory that belongs to the parent's thread. */
static inline long raw_call(long number, long a, long b, long c, long d, long e, long f)
{
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

#define CALL_6(n, a, b, c, d, e, f, ...) \
    raw_call((n), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define CALL(...) CALL_6(__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0)

#endif
