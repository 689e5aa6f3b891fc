/* What ThreadSanitizer has to be told of Rust's standard library, which comes without instrumentation.
 * Linked into the test binaries by .ci/sanitizers; the names on the left are the linker's --wrap.
 *
 * 1. Where std orders memory out of the sanitizer's sight: see WRAP below.
 * 2. Where std waits. The sanitizer holds a signal back until the thread makes a call that it knows; to
 *    wait by futex(2), as std does, is none, so a signal to a parked thread would be held back for ever.
 *    Here std waits by sem_wait(3) instead, in which handlers run at once.
 *
 * Compiled without the sanitizer, so no handler runs in the code here except in the calls it makes to
 * functions that the sanitizer intercepts. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

void __tsan_acquire(void *);
void __tsan_release(void *);

/* ------------------------------------------------------------------------------- what orders memory */

/* Every argument of these functions of std is a pointer or an integer, and so is what they return. */
#define ARGUMENTS intptr_t a, intptr_t b, intptr_t c, intptr_t d, intptr_t e, intptr_t f
#define JOIN_(one, other) one##other
#define JOIN(one, other) JOIN_(one, other)
#define WRAP(function, before, after)                             \
    intptr_t JOIN(__real_, function)(ARGUMENTS);                  \
    intptr_t JOIN(__wrap_, function)(ARGUMENTS) {                 \
        before;                                                   \
        intptr_t result = JOIN(__real_, function)(a, b, c, d, e, f); \
        after;                                                    \
        return result;                                            \
    }

/* The fast paths of a lock are inlined, and so instrumented, and so is every release; the slow paths of
 * taking it are in std. */
WRAP(MUTEX_LOCK_CONTENDED, , __tsan_acquire((void *)a))
WRAP(RWLOCK_READ_CONTENDED, , __tsan_acquire((void *)a))
WRAP(RWLOCK_WRITE_CONTENDED, , __tsan_acquire((void *)a))
/* A wait gives the lock, its second argument, back and takes it again. */
WRAP(CONDVAR_WAIT, __tsan_release((void *)b), __tsan_acquire((void *)b))
WRAP(CONDVAR_WAIT_TIMEOUT, __tsan_release((void *)b), __tsan_acquire((void *)b))
/* Who initialised, and who waited for it. */
WRAP(ONCE_CALL, , (__tsan_release((void *)a), __tsan_acquire((void *)a)))

/* Arc gives up a reference with a release, and the last one adds a fence; the sanitizer has no fences.
 * Of the crate's own atomics none is weaker than this. */
enum { RELEASE = 3, ACQ_REL = 4 };
uint64_t __real___tsan_atomic64_fetch_sub(volatile uint64_t *, uint64_t, int);
uint64_t __wrap___tsan_atomic64_fetch_sub(volatile uint64_t *at, uint64_t by, int order) {
    return __real___tsan_atomic64_fetch_sub(at, by, order == RELEASE ? ACQ_REL : order);
}

/* ---------------------------------------------------------------------------------------- what waits */

/* A thread that waits for a change of what is at `at`. On its stack. */
struct waiter {
    uint32_t *at;
    struct waiter *next;
    int queued;
    sem_t woken;
};

static struct waiter *waiters;
static char locked;

static void lock(void) {
    while (__atomic_test_and_set(&locked, __ATOMIC_ACQUIRE)) {
    }
}

static void unlock(void) {
    __atomic_clear(&locked, __ATOMIC_RELEASE);
}

/* The threads that waited are not in a forked child. */
static void forget(void) {
    waiters = NULL;
    unlock();
}

static void *nothing(void *argument) {
    return argument;
}

__attribute__((constructor)) static void prepare(void) {
    pthread_atfork(lock, unlock, forget);
    /* The sanitizer has a thread of its own, which it starts with the program's first: let it be there before
     * any test counts threads. */
    pthread_t first;
    if (pthread_create(&first, NULL, nothing, NULL) == 0) {
        pthread_join(first, NULL);
    }
}

static int give_up(struct waiter *waiter) {
    lock();
    int queued = waiter->queued;
    for (struct waiter **at = &waiters; queued && *at; at = &(*at)->next) {
        if (*at == waiter) {
            *at = waiter->next;
            break;
        }
    }
    unlock();
    return queued;
}

/* `until` is of CLOCK_MONOTONIC, the semaphore's time of CLOCK_REALTIME. */
static struct timespec wall_clock(const struct timespec *until) {
    struct timespec now, wall;
    clock_gettime(CLOCK_MONOTONIC, &now);
    clock_gettime(CLOCK_REALTIME, &wall);
    wall.tv_sec += until->tv_sec - now.tv_sec;
    wall.tv_nsec += until->tv_nsec - now.tv_nsec;
    if (wall.tv_nsec < 0) {
        wall.tv_nsec += 1000000000, wall.tv_sec--;
    } else if (wall.tv_nsec >= 1000000000) {
        wall.tv_nsec -= 1000000000, wall.tv_sec++;
    }
    return wall;
}

static long wait_at(uint32_t *at, uint32_t value, const struct timespec *until) {
    struct waiter me = {.at = at, .queued = 1};
    sem_init(&me.woken, 0, 0);
    lock();
    int waits = __atomic_load_n(at, __ATOMIC_SEQ_CST) == value;
    if (waits) {
        /* At the end: first come, first woken. */
        struct waiter **last = &waiters;
        while (*last) {
            last = &(*last)->next;
        }
        *last = &me;
    }
    unlock();
    int error = waits ? 0 : EAGAIN;
    if (waits) {
        struct timespec wall = until ? wall_clock(until) : (struct timespec){0};
        if ((until ? sem_timedwait(&me.woken, &wall) : sem_wait(&me.woken)) == -1) {
            error = errno;
            if (!give_up(&me)) {
                /* Woken after all: by somebody who is about to post. */
                error = 0;
                while (sem_wait(&me.woken) == -1) {
                }
            }
        }
    }
    sem_destroy(&me.woken);
    errno = error;
    return error ? -1 : 0;
}

static long wake_at(uint32_t *at, int most) {
    struct waiter *woken = NULL;
    long count = 0;
    lock();
    for (struct waiter **next = &waiters; *next && count < most;) {
        struct waiter *waiter = *next;
        if (waiter->at != at) {
            next = &waiter->next;
            continue;
        }
        *next = waiter->next;
        waiter->queued = 0;
        waiter->next = woken;
        woken = waiter;
        count++;
    }
    unlock();
    while (woken) {
        /* Gone once it is posted. */
        struct waiter *next = woken->next;
        sem_post(&woken->woken);
        woken = next;
    }
    return count;
}

static long system_call(long number, long a, long b, long c, long d, long e, long f) {
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    if (result < 0 && result > -4096) {
        errno = -result;
        return -1;
    }
    return result;
}

/* In place of the C library's, for everything that is linked statically. */
long syscall(long number, ...) {
    va_list list;
    va_start(list, number);
    long a = va_arg(list, long), b = va_arg(list, long), c = va_arg(list, long);
    long d = va_arg(list, long), e = va_arg(list, long), f = va_arg(list, long);
    va_end(list);
    if (number == SYS_futex) {
        switch (b) {
        case FUTEX_WAIT_BITSET_PRIVATE:
            return wait_at((uint32_t *)a, c, (const struct timespec *)d);
        case FUTEX_WAKE_PRIVATE:
            return wake_at((uint32_t *)a, c);
        }
    }
    long result = system_call(number, a, b, c, d, e, f);
    if (number == SYS_rt_tgsigqueueinfo) {
        /* A signal that a thread sends to itself is delivered before the call returns: here the
         * sanitizer gets the occasion to. */
        int saved = errno;
        usleep(0);
        errno = saved;
    }
    return result;
}

/* The sanitizer fills in the mask of every disposition that is put, also where there is no handler. The
 * kernel keeps it, and hands it out again. Here it is as it was put. */
int __real_sigaction(int, const struct sigaction *, struct sigaction *);
int __wrap_sigaction(int signal, const struct sigaction *new, struct sigaction *old) {
    static unsigned long masks[NSIG];
    int result = __real_sigaction(signal, new, old);
    if (result == 0) {
        unsigned long *mask = &masks[signal];
        unsigned long before = new ? __atomic_exchange_n(mask, *(unsigned long *)&new->sa_mask, __ATOMIC_SEQ_CST)
                                   : __atomic_load_n(mask, __ATOMIC_SEQ_CST);
        if (old && (old->sa_handler == SIG_DFL || old->sa_handler == SIG_IGN)) {
            *(unsigned long *)&old->sa_mask = before;
        }
    }
    return result;
}

/* The sanitizer knows sem_timedwait(3) only. */
int sem_clockwait(sem_t *semaphore, clockid_t clock, const struct timespec *until) {
    struct timespec wall = clock == CLOCK_MONOTONIC ? wall_clock(until) : *until;
    return sem_timedwait(semaphore, &wall);
}
