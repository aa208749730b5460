#include "cli/common.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/file.h"

volatile sig_atomic_t stop_signal;

static void end_at_once(int number)
{
    signal(number, SIG_DFL);
    raise(number);
}

static void say(const char *text)
{
    if (write(STDERR_FILENO, text, strlen(text)) < 0) {
        /* nobody reads it */
    }
}

/* Asked twice: do not wait. timeout(1) sends one request as two signals, to the process and to its
 * group, so a second one counts from a moment later on. */
static bool asked_again(void)
{
    enum { ONE_REQUEST = 300 }; /* milliseconds */
    static struct timespec first;
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    if (!stop_signal)
        first = now;
    return (now.tv_sec - first.tv_sec) * 1000 + (now.tv_nsec - first.tv_nsec) / 1000000 >
           ONE_REQUEST;
}

static void finish_step(int number)
{
    const int e = errno;
    const bool again = stop_signal;

    /* a terminal that closes may tell it twice, and nobody is waiting there */
    if (asked_again() && number != SIGHUP)
        end_at_once(number);
    if (again)
        return;
    stop_signal = number;
    say("\ngraft: stopping after this step; a second signal ends at once\n");
    errno = e;
}

static void take_back(int number)
{
    const int e = errno;
    const bool again = stop_signal;

    if (asked_again() || (!again && !file_writing()))
        end_at_once(number);
    if (again)
        return;
    stop_signal = number;
    say("\ngraft: stopping; a second signal ends at once\n");
    errno = e;
}

static void on_signal(void (*handler)(int))
{
    struct sigaction a, before;

    memset(&a, 0, sizeof a);
    a.sa_handler = handler;
    sigemptyset(&a.sa_mask);
    a.sa_flags = SA_RESTART | SA_NODEFER;
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
    sigaction(SIGHUP, NULL, &before);
    if (before.sa_handler != SIG_IGN) /* nohup's program goes on */
        sigaction(SIGHUP, &a, NULL);
}

void signals_catch(void)
{
    on_signal(finish_step);
    /* a terminal that is gone takes the reader of stderr along, tee(1) say: nothing to lose for */
    signal(SIGPIPE, SIG_IGN);
}

void signals_take_back(void)
{
    file_stop_at(&stop_signal);
    on_signal(take_back);
}

bool is_terminal(FILE *f)
{
    const char *term = getenv("TERM");

    return isatty(fileno(f)) && !(term && !strcmp(term, "dumb"));
}

bool has_colour(FILE *f)
{
    const char *no = getenv("NO_COLOR");

    return is_terminal(f) && !(no && *no);
}

enum graft_status print_json(json_t *v, struct graft_err *err)
{
    struct strbuf s = STRBUF_INIT;
    bool failed = !v;

    if (v) {
        json_write(&s, v);
        strbuf_putc(&s, '\n');
        failed = s.failed;
        if (!failed) {
            fwrite(s.buf, 1, s.len, stdout);
            fflush(stdout);
        }
    }
    json_decref(v);
    strbuf_release(&s);
    return failed ? graft_fail_nomem(err, "a line of output", 1024) : GRAFT_OK;
}

int exit_code(enum graft_status st)
{
    switch (st) {
    case GRAFT_OK:
        return 0;
    case GRAFT_EARG:
        return 2;
    case GRAFT_EIO:
    case GRAFT_EFORMAT:
    case GRAFT_ESHAPE:
        return 3;
    case GRAFT_EDEVICE:
        return 4;
    case GRAFT_ESTOPPED:
        return stop_signal ? 128 + stop_signal : 1;
    case GRAFT_ENOMEM:
    case GRAFT_EWRITE:
    case GRAFT_ERUN:
        break;
    }
    return 1;
}

/* At the end of a parallel loop libgomp's threads wait awake for some milliseconds before they
 * sleep, which is fastest on an idle machine. Where other programs want the cores, a thread waits
 * that long for one that is not running, again and again: measured, 15 to 65 tokens/s of training
 * instead of 100 to 120. A wait of this length costs an idle machine nothing. */
void threads_settle(char **argv)
{
    static const char *const said[] = { "OMP_WAIT_POLICY", "GOMP_SPINCOUNT" };
    static const char turns[] = "5000";
    char self[4096]; /* by its name, which is what ps then shows */
    ssize_t len;

    for (size_t i = 0; i < sizeof said / sizeof *said; i++)
        if (getenv(said[i]))
            return;
    len = readlink("/proc/self/exe", self, sizeof self - 1);
    if (len <= 0 || setenv("GOMP_SPINCOUNT", turns, 1) != 0)
        return;
    self[len] = '\0';
    execv(self, argv);
}
