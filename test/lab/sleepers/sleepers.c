/* SPDX-License-Identifier: Apache-2.0 */
/*
* Starts processes that sleep in many different places of the kernel, each with its own name, so that a frozen guest has
 * different stacks, states and policies to compare. Prints `[{"pid": N, "comm": "..."}, ...]` when all of them had time to
 * fall asleep, then waits for its end.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/sem.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int never[2]; /* A pipe that nobody writes to. */
static int locked = -1;

static void in_pipe(void)
{
	char byte;
	(void)!read(never[0], &byte, 1);
}

static void in_full_pipe(void)
{
	static char block[1 << 16];
	int full[2];

	if (pipe(full))
		exit(1);
	for (;;)
		if (write(full[1], block, sizeof(block)) < 0)
			exit(1);
}

static void in_futex(void)
{
	static int word;
	syscall(SYS_futex, &word, FUTEX_WAIT, 0, NULL, NULL, 0);
}

static void in_nanosleep(void) { sleep(1000000); }
static void in_pause(void) { pause(); }

static void in_poll(void)
{
	struct pollfd one = { .fd = never[0], .events = POLLIN };
	poll(&one, 1, -1);
}

static void in_select(void)
{
	fd_set set;
	FD_ZERO(&set);
	FD_SET(never[0], &set);
	select(never[0] + 1, &set, NULL, NULL, NULL);
}

static void in_epoll(void)
{
	struct epoll_event event = { .events = EPOLLIN };
	int epoll = epoll_create1(0);
	epoll_ctl(epoll, EPOLL_CTL_ADD, never[0], &event);
	epoll_wait(epoll, &event, 1, -1);
}

static void read_from(int fd)
{
	char buffer[4096];
	if (fd >= 0)
		(void)!read(fd, buffer, sizeof(buffer));
}

static void in_eventfd(void) { read_from(eventfd(0, 0)); }

static void in_timerfd(void)
{
	struct itimerspec far = { .it_value.tv_sec = 1000000 };
	int fd = timerfd_create(CLOCK_MONOTONIC, 0);
	timerfd_settime(fd, 0, &far, NULL);
	read_from(fd);
}

static void in_signalfd(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	read_from(signalfd(-1, &set, 0));
}

static void in_sigwait(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	sigwaitinfo(&set, NULL);
}

static void in_inotify(void) { read_from(inotify_init1(0)); }

static void in_flock(void) { flock(open("/tmp/.sleepers", O_RDWR), LOCK_EX); }

static void in_fcntl_lock(void)
{
	struct flock whole = { .l_type = F_WRLCK };
	fcntl(open("/tmp/.sleepers", O_RDWR), F_SETLKW, &whole);
}

static void in_msgrcv(void)
{
	struct { long type; char text[8]; } message;
	(void)!msgrcv(msgget(IPC_PRIVATE, 0600), &message, sizeof(message.text), 0, 0);
}

static void in_semop(void)
{
	struct sembuf down = { .sem_op = -1 };
	semop(semget(IPC_PRIVATE, 1, 0600), &down, 1);
}

static void in_unix_recv(void)
{
	int pair[2];
	if (!socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		read_from(pair[0]);
}

static void in_unix_accept(void)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	/* The address has only the family: the kernel chooses an abstract name. */
	bind(fd, (struct sockaddr *)&name, sizeof(sa_family_t));
	listen(fd, 1);
	accept(fd, NULL, NULL);
}

static void in_fifo_open(void)
{
	mkfifo("/tmp/.sleepers.fifo", 0600);
	open("/tmp/.sleepers.fifo", O_RDONLY);
}

static void in_wait(void)
{
	pid_t child = fork();
	if (child == 0) {
		prctl(PR_SET_NAME, "sl-waited");
		pause();
	}
	waitpid(child, NULL, 0);
}

/* The parent of a vfork sleeps uninterruptibly (kernel/fork.c, wait_for_vfork_done): state D. */
static void in_vfork(void)
{
	if (vfork() == 0) {
		prctl(PR_SET_NAME, "sl-vforked");
		pause();
		_exit(0);
	}
}

static void stopped(void) { raise(SIGSTOP); }

static void traced(void)
{
	pid_t child = fork();
	if (child == 0) {
		prctl(PR_SET_NAME, "sl-tracee");
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGUSR1);
	}
	/* WNOWAIT leaves the child in its stopped state. */
	siginfo_t info;
	waitid(P_PID, (id_t)child, &info, WSTOPPED | WNOWAIT);
	pause();
}

static void zombie(void)
{
	if (fork() == 0) {
		prctl(PR_SET_NAME, "sl-zombie");
		_exit(3);
	}
	pause();
}

static void *sleep_in_thread(void *name)
{
	prctl(PR_SET_NAME, name);
	pause();
	return NULL;
}

static void threads(void)
{
	static char *const names[] = { "sl-thread-1", "sl-thread-2", "sl-thread-3" };
	pthread_t id;
	for (unsigned int i = 0; i < 3; i++)
		pthread_create(&id, NULL, sleep_in_thread, names[i]);
	pthread_join(id, NULL);
}

static void with_policy(int policy, int priority)
{
	struct sched_param param = { .sched_priority = priority };
	sched_setscheduler(0, policy, &param);
	pause();
}

static void fifo(void) { with_policy(SCHED_FIFO, 10); }
static void rr(void) { with_policy(SCHED_RR, 5); }
static void batch(void) { with_policy(SCHED_BATCH, 0); }
static void idle(void) { with_policy(SCHED_IDLE, 0); }

static void niced(void)
{
	(void)!nice(7);
	pause();
}

static void pinned(void)
{
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(1, &set);
	sched_setaffinity(0, sizeof(set), &set);
	pause();
}

static const struct {
	const char *comm;
	void (*body)(void);
} sleepers[] = {
	{ "sl-pipe", in_pipe },
	{ "sl-full-pipe", in_full_pipe },
	{ "sl-futex", in_futex },
	{ "sl-nanosleep", in_nanosleep },
	{ "sl-pause", in_pause },
	{ "sl-poll", in_poll },
	{ "sl-select", in_select },
	{ "sl-epoll", in_epoll },
	{ "sl-eventfd", in_eventfd },
	{ "sl-timerfd", in_timerfd },
	{ "sl-signalfd", in_signalfd },
	{ "sl-sigwait", in_sigwait },
	{ "sl-inotify", in_inotify },
	{ "sl-flock", in_flock },
	{ "sl-fcntl", in_fcntl_lock },
	{ "sl-msgrcv", in_msgrcv },
	{ "sl-semop", in_semop },
	{ "sl-unix-recv", in_unix_recv },
	{ "sl-unix-accept", in_unix_accept },
	{ "sl-fifo-open", in_fifo_open },
	{ "sl-wait", in_wait },
	{ "sl-vfork", in_vfork },
	{ "sl-stopped", stopped },
	{ "sl-tracer", traced },
	{ "sl-parent", zombie },
	{ "sl-threads", threads },
	{ "sl-rt-fifo", fifo },
	{ "sl-rt-rr", rr },
	{ "sl-batch", batch },
	{ "sl-idle", idle },
	{ "sl-nice", niced },
	{ "sl-pinned", pinned },
	/* A name with characters that break naive parsers and printers. */
	{ "sl) R 1\x1b[31m", in_pause },
};

int main(void)
{
	struct flock whole = { .l_type = F_WRLCK };

	locked = open("/tmp/.sleepers", O_RDWR | O_CREAT, 0600);
	if (locked < 0 || flock(locked, LOCK_EX) || fcntl(locked, F_SETLK, &whole) || pipe(never))
		return 1;
	printf("[");
	for (unsigned int i = 0; i < sizeof(sleepers) / sizeof(*sleepers); i++) {
		pid_t pid = fork();
		if (pid < 0)
			return 1;
		if (pid == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			prctl(PR_SET_NAME, sleepers[i].comm);
			sleepers[i].body();
			pause();
		}
		printf("%s\n{\"pid\": %d, \"comm\": \"", i ? "," : "", pid);
		for (const char *c = sleepers[i].comm; *c; c++)
			printf(*c < ' ' ? "\\u%04x" : "%c", *c);
		printf("\"}");
	}
	printf("\n]\n");
	usleep(500000);
	fflush(stdout);
	close(1);
	for (;;)
		pause();
}
