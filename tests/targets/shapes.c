/* One thread for each shape of stack that is easy to get wrong. Says `ready`
   once each is where it stays, and ends after two minutes in any case. */

#define _GNU_SOURCE
#include <alloca.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KEEP __attribute__((noinline, noclone))

static volatile uint64_t sum;
static atomic_int arrived;

/* Never set, but the compiler does not know. */
static volatile int stop;

/* A leaf that does not end. */
KEEP static void spin(void)
{
    arrived++;
    while (!stop)
        sum++;
}

KEEP static int deep(int depth)
{
    if (depth == 0)
        spin();
    /* Something to do after the call, or it would become a loop. */
    int below = deep(depth - 1);
    sum++;
    return below + 1;
}

static void *recursion(void *unused)
{
    sum += deep(200);
    return unused;
}

/* The frame pointer is needed: the stack pointer is anywhere. */
KEEP static int with_alloca(int size)
{
    volatile char *room = alloca(size);
    room[0] = 1;
    spin();
    return room[0];
}

static void *alloca_thread(void *unused)
{
    sum += with_alloca(1000 + (int)(sum & 1));
    return unused;
}

/* The stack is realigned on entry, so the CFA is found by way of memory. */
KEEP static int realigned(int size)
{
    _Alignas(64) volatile char aligned[64];
    volatile char *room = alloca(size);
    aligned[0] = room[0] = 1;
    spin();
    return aligned[0] + room[0];
}

static void *realigned_thread(void *unused)
{
    sum += realigned(1000 + (int)(sum & 1));
    return unused;
}

/* Our code, called by the C library's, called by ours. */
static int compare(const void *left, const void *right)
{
    spin();
    return memcmp(left, right, 4);
}

static void *callback(void *unused)
{
    int numbers[8] = {3, 1, 2};
    qsort(numbers, 8, sizeof numbers[0], compare);
    return unused;
}

/* The call is the last instruction: the return address lies in what follows. */
KEEP __attribute__((noreturn)) static void never_returns(void)
{
    spin();
    abort();
}

KEEP static void ends_in_a_call(void)
{
    sum++;
    never_returns();
}

static void *last_call(void *unused)
{
    ends_in_a_call();
    return unused;
}

static void on_signal(int signal)
{
    (void)signal;
    spin();
}

static void handle(int signal, int flags)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = flags};
    sigaction(signal, &action, NULL);
}

static void *in_handler(void *unused)
{
    handle(SIGUSR1, 0);
    raise(SIGUSR1);
    return unused;
}

/* The handler runs on another stack than what it interrupted. */
static void *on_other_stack(void *unused)
{
    stack_t stack = {.ss_size = 64 << 10, .ss_sp = malloc(64 << 10)};
    sigaltstack(&stack, NULL);
    handle(SIGUSR2, SA_ONSTACK);
    raise(SIGUSR2);
    return unused;
}

/* What was interrupted is no call: its address must not be stepped back. */
KEEP static int faults(volatile int *nowhere)
{
    return *nowhere;
}

static void *in_fault(void *unused)
{
    handle(SIGSEGV, 0);
    sum += (uint64_t)faults((volatile int *)8);
    return unused;
}

/* A call of nothing: the program counter is 0 in what was interrupted. */
static void *called_nothing(void *unused)
{
    void (*volatile nothing)(void) = NULL;
    handle(SIGBUS, 0);
    handle(SIGSEGV, 0);
    nothing();
    return unused;
}

static void *sleeps(void *unused)
{
    arrived++;
    for (;;)
        pause();
    return unused;
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void *waits(void *unused)
{
    arrived++;
    pthread_mutex_lock(&lock);
    return unused;
}

static int pipe_ends[2];

static void *reads(void *unused)
{
    char byte;
    arrived++;
    sum += (uint64_t)read(pipe_ends[0], &byte, 1);
    return unused;
}

int main(void)
{
    void *(*const shapes[])(void *) = {
        recursion, alloca_thread,  realigned_thread, callback, last_call, in_handler,
        on_other_stack, in_fault,  called_nothing,   sleeps,   waits,     reads,
    };
    const int count = sizeof shapes / sizeof shapes[0];
    alarm(120);
    if (pipe(pipe_ends))
        return 1;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < count; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, shapes[i], NULL))
            return 1;
    }
    while (arrived < count)
        usleep(1000);
    puts("ready");
    fflush(stdout);
    for (;;)
        pause();
}
