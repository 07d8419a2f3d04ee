/* SPDX-License-Identifier: Apache-2.0 */
/* zoo-loader: creates BPF objects of every kind in a kernel, prints their contents, and holds them until it is killed. */
#include "zoo.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct zoo zoo;

/* Old static libelf archives do not contain the red-black tree (elfutils 0.192, elf_begin.c), which the loader does not use. */
__attribute__((weak)) void eu_search_tree_init(void *tree)
{
	(void)tree;
}
__attribute__((weak)) void eu_search_tree_fini(void *tree, void (*free_node)(void *))
{
	(void)tree;
	(void)free_node;
}

void die(const char *fmt, ...)
{
	va_list args;
	int why = errno;
	fputs("zoo-loader: ", stderr);
	errno = why;
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

static const char usage[] =
	"usage: zoo-loader [--print-answers | --answers FILE] [--netns own|keep] [--busy-record] [--once]\n"
	"  --netns own  devices and sockets in a separate network namespace (default: the caller's)\n"
	"  --busy-record  keep a ring buffer's record between reserve and submit (delays the freeing of programs)\n"
	"  --once       ends after the answers\n";

/* The file appears when it is complete. The pipe is closed at the end. */
static void publish(const char *path)
{
	char fresh[4096];
	snprintf(fresh, sizeof(fresh), "%s.new", path ? path : "");
	FILE *out = path ? fopen(fresh, "w") : stdout;
	if (!out)
		die("%s: %m", fresh);
	answers_write(out);
	fclose(out);
	if (path && rename(fresh, path))
		die("%s: %m", path);
}

int main(int argc, char **argv)
{
	const char *answers = NULL;
	bool once = false;
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--print-answers")) {
			answers = NULL;
		} else if (!strcmp(argv[i], "--answers") && i + 1 < argc) {
			answers = argv[++i];
		} else if (!strcmp(argv[i], "--netns") && i + 1 < argc) {
			zoo.own_netns = !strcmp(argv[++i], "own");
		} else if (!strcmp(argv[i], "--busy-record")) {
			zoo.busy_record = true;
		} else if (!strcmp(argv[i], "--once")) {
			once = true;
		} else {
			fputs(usage, stderr);
			return 2;
		}
	}

	/* Blocked from the start, so that a signal that arrives earlier ends the wait below. */
	sigset_t end;
	sigemptyset(&end);
	sigaddset(&end, SIGTERM);
	sigaddset(&end, SIGINT);
	sigaddset(&end, SIGHUP);
	sigprocmask(SIG_BLOCK, &end, NULL);
	zoo.cpus = libbpf_num_possible_cpus();
	zoo.page_size = (int)sysconf(_SC_PAGESIZE);
	if (zoo.cpus < 1)
		die("possible CPUs: %s", strerror(-zoo.cpus));
	if (zoo.own_netns && unshare(CLONE_NEWNET))
		die("unshare(CLONE_NEWNET): %m");

	/* Run-time statistics are on while this fd is open: until the loader ends. */
	if (bpf_enable_stats(BPF_STATS_RUN_TIME) < 0)
		die("BPF_ENABLE_STATS: %m");
	answers_begin();
	move_in();
	show_hashes();
	show_lru();
	show_arrays();
	show_tries();
	show_queues();
	show_nested();
	show_typed();
	show_globals();
	show_storage();
	show_rings();
	show_cgroups();
	show_trace();
	show_net();
	show_net_maps();
	show_struct_ops();
	show_arenas();
	show_special();
	show_held_record();

	publish(answers);
	const struct timespec tick = { .tv_nsec = 200 * 1000 * 1000 };
	while (!once && sigtimedwait(&end, NULL, &tick) < 0) {
		stir_trace();
		stir_net();
	}
	return 0;
}
