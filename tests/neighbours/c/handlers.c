/* Handlers as C libraries install them. Linked into the test program, and built as a shared library
 * as well, whose exported functions the dynamic linker can name. */

#define _GNU_SOURCE
#include <signal.h>
#include <string.h>
#include <unistd.h>

static void say_neighbour(void)
{
    static const char line[] = "neighbour\n";
    /* Nobody to tell if it fails. */
    if (write(STDOUT_FILENO, line, sizeof line - 1) < 0)
        return;
}

void on_signal(int number)
{
    (void)number;
    say_neighbour();
}

void on_sigaction(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    if (info != NULL)
        say_neighbour();
}

void c_signal(int number)
{
    signal(number, on_signal);
}

void c_sigaction(int number)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_sigaction;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, SIGUSR1);
    sigaction(number, &action, NULL);
}
