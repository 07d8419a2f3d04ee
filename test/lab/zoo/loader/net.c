/* SPDX-License-Identifier: Apache-2.0 */
/* Network programs on the loopback device (every kernel has one) and links of the network's kinds. */
#include "zoo.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

EMBEDDED(net);
EMBEDDED(ext);
struct bpf_object *net_object;
static int pinger = -1, ponger = -1;
static struct sockaddr_in ponger_at;

static void loopback_up(void)
{
	struct ifreq r = { .ifr_name = "lo" };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &r))
		die("lo: %m");
	r.ifr_flags |= IFF_UP;
	if (ioctl(fd, SIOCSIFFLAGS, &r))
		die("lo up: %m");
	close(fd);
}

/* Traffic of the loader's own: a socket that says a line to another one, whose filter counts. */
static void open_sockets(void)
{
	socklen_t n = sizeof(ponger_at);
	ponger_at = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	ponger = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	pinger = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (pinger < 0 || bind(ponger, (void *)&ponger_at, sizeof(ponger_at)) || getsockname(ponger, (void *)&ponger_at, &n))
		die("sockets: %m");
	int filter = object_prog(net_object, "z_filter");
	if (filter >= 0 && setsockopt(ponger, SOL_SOCKET, SO_ATTACH_BPF, &filter, sizeof(filter)))
		die("SO_ATTACH_BPF: %m");
}

static struct bpf_program *loaded(const char *name)
{
	return object_prog(net_object, name) < 0 ? NULL : bpf_object__find_program_by_name(net_object, name);
}

static void tell(const char *name, struct bpf_link *link, const char *extra)
{
	if (link)
		answer_link(bpf_link__fd(link), extra);
	else
		answer_skip("link", name, strerror(errno));
}

static void links(void)
{
	int lo = (int)if_nametoindex("lo"), netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	struct bpf_program *p;
	LIBBPF_OPTS(bpf_netfilter_opts, filter, .pf = NFPROTO_IPV4, .hooknum = NF_INET_LOCAL_IN, .priority = -128);
	if ((p = loaded("z_xdp")))
		tell("z_xdp", bpf_program__attach_xdp(p, lo), "\"ifindex\":1");
	if ((p = loaded("z_tcx")))
		tell("z_tcx", bpf_program__attach_tcx(p, lo, NULL), "\"ifindex\":1");
	if ((p = loaded("z_sk_lookup")))
		tell("z_sk_lookup", bpf_program__attach_netns(p, netns), NULL);
	if ((p = loaded("z_dissector")))
		tell("z_dissector", bpf_program__attach_netns(p, netns), NULL);
	if ((p = loaded("z_netfilter")))
		tell("z_netfilter", bpf_program__attach_netfilter(p, &filter), "\"pf\":2,\"hooknum\":1,\"priority\":-128");
	int map = object_map(net_object, "z_sockmap_progs");
	if (map >= 0 && (p = loaded("z_sk_msg")))
		tell("z_sk_msg", bpf_program__attach_sockmap(p, map), NULL);
	if (map >= 0 && (p = loaded("z_sk_skb")) && bpf_prog_attach(bpf_program__fd(p), map, BPF_SK_SKB_STREAM_VERDICT, 0))
		answer_skip("other", "z_sk_skb", strerror(errno));
}

static void name_target(struct bpf_object *o)
{
	struct bpf_program *p = bpf_object__find_program_by_name(o, "z_freplace");
	if (p)
		bpf_program__set_attach_target(p, object_prog(net_object, "z_xdp"), "zoo_verdict");
}

static void replacement(void)
{
	if (object_prog(net_object, "z_xdp") < 0)
		return;
	struct bpf_object *o = object_load(&ext, name_target);
	struct bpf_program *p = object_prog(o, "z_freplace") < 0 ? NULL : bpf_object__find_program_by_name(o, "z_freplace");
	if (!p)
		return;
	tell("z_freplace", bpf_program__attach_freplace(p, 0, NULL), NULL);
	answer_prog(bpf_program__fd(p), 0, false);
}

/* Runs that nobody else causes: no hook leads to these programs. */
static __u64 known_runs(const char *name)
{
	enum { TIMES = 1000 };
	char packet[64] = { 0 };
	LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = packet, .data_size_in = sizeof(packet), .repeat = TIMES);
	if (strcmp(name, "z_tc"))
		return 0;
	if (bpf_prog_test_run_opts(object_prog(net_object, name), &run))
		die("%s: test run: %m", name);
	return TIMES;
}

void show_net(void)
{
	net_object = object_load(&net, NULL);
	if (!net_object)
		return;
	loopback_up();
	open_sockets();
	replacement();
	links();
	struct bpf_program *p;
	bpf_object__for_each_program(p, net_object) {
		const char *name = bpf_program__name(p);
		if (bpf_program__fd(p) > 0)
			answer_prog(bpf_program__fd(p), known_runs(name), !strcmp(name, "z_tc"));
	}
	int map = object_map(net_object, "z_packets");
	if (map >= 0) {
		map_open(map, "entries", "the loader's own packets are counted in it, and those of whoever uses its devices");
		map_field("\"bounds\":{\"entries\":8,\"only_grows\":true}");
		map_close();
	}
	stir_net();
}

void stir_net(void)
{
	char in[64];
	if (pinger < 0)
		return;
	for (int i = 0; i < 5; i++)
		sendto(pinger, "zoo", 3, 0, (void *)&ponger_at, sizeof(ponger_at));
	while (recv(ponger, in, sizeof(in), MSG_DONTWAIT) > 0)
		;
}
