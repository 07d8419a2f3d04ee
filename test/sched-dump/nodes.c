/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attaches the scheduler, and spins on the given CPUs until killed.
 *
 *     lab-nodes CPU...
 */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>
#include <bpf/libbpf.h>
#include "nodes.skel.h"

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void spin(int cpu)
{
	cpu_set_t set;
	int pid = fork();

	if (pid < 0)
		die("fork");
	if (pid > 0)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("sched_setaffinity");
	for (volatile unsigned long long i = 0;; i++)
		;
}

int main(int argc, char **argv)
{
	struct nodes *skel = nodes__open_and_load();

	if (!skel)
		die("load");
	if (!bpf_map__attach_struct_ops(skel->maps.nodes_ops))
		die("attach");
	for (int i = 1; i < argc; i++)
		spin(atoi(argv[i]));
	for (;;)
		pause();
}
