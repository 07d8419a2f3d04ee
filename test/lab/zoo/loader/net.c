/* SPDX-License-Identifier: Apache-2.0 */
/* Network programs on the loopback device, which every kernel has, and links of network types. */
#include "zoo.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/netfilter.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>
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

/* The loader's own traffic: a socket sends a line to another socket, whose filter counts. */
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

/* clsact filters and a netkit pair stay after the loader ends, if the network namespace is not the loader's own. */
static int netkit_index;
static bool has_clsact;

static int rtnetlink(struct nlmsghdr *request)
{
	struct {
		struct nlmsghdr h;
		struct nlmsgerr e;
		char rest[256];
	} reply;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (fd < 0 || send(fd, request, request->nlmsg_len, 0) < 0 || recv(fd, &reply, sizeof(reply), 0) < (ssize_t)NLMSG_LENGTH(4))
		die("rtnetlink: %m");
	close(fd);
	errno = -reply.e.error;
	return errno ? -1 : 0;
}

static void put_attr(struct nlmsghdr *h, unsigned short type, const void *data, size_t size)
{
	struct rtattr *a = (void *)((char *)h + NLMSG_ALIGN(h->nlmsg_len));
	*a = (struct rtattr){ .rta_len = (unsigned short)RTA_LENGTH(size), .rta_type = type };
	memcpy(RTA_DATA(a), data, size);
	h->nlmsg_len = NLMSG_ALIGN(h->nlmsg_len) + RTA_ALIGN(a->rta_len);
}

struct link_request {
	struct nlmsghdr h;
	struct ifinfomsg i;
	char attrs[128];
};

/* Creates a netkit pair: the primary is "zoo_netkit", and the kernel names its peer. Returns 0 if it cannot. */
static int make_netkit(void)
{
	struct link_request r = { .h = { .nlmsg_len = NLMSG_LENGTH(sizeof(r.i)),
					 .nlmsg_type = RTM_NEWLINK,
					 .nlmsg_flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK } };
	struct {
		struct rtattr a;
		char kind[8];
	} info = { .a = { .rta_len = RTA_LENGTH(6), .rta_type = IFLA_INFO_KIND }, .kind = "netkit" };
	put_attr(&r.h, IFLA_IFNAME, "zoo_netkit", sizeof("zoo_netkit"));
	put_attr(&r.h, IFLA_LINKINFO, &info, sizeof(info));
	return rtnetlink(&r.h) ? 0 : (int)if_nametoindex("zoo_netkit");
}

static void take_away(void)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)if_nametoindex("lo"),
		    .attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS);
	struct link_request r = { .h = { .nlmsg_len = NLMSG_LENGTH(sizeof(r.i)),
					 .nlmsg_type = RTM_DELLINK,
					 .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK },
				  .i.ifi_index = netkit_index };
	if (has_clsact)
		bpf_tc_hook_destroy(&hook);
	if (netkit_index)
		rtnetlink(&r.h);
}

/* Filters of kind "bpf" under clsact: two at ingress and one at egress. */
static void classic_filters(int lo, int prog, int other)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = lo, .attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS);
	LIBBPF_OPTS(bpf_tc_opts, first, .prog_fd = prog, .handle = 1, .priority = 10);
	LIBBPF_OPTS(bpf_tc_opts, second, .prog_fd = other, .handle = 7, .priority = 3);
	LIBBPF_OPTS(bpf_tc_opts, third, .prog_fd = prog, .handle = 2, .priority = 1);
	int error = bpf_tc_hook_create(&hook);
	if (!error) {
		has_clsact = true;
		hook.attach_point = BPF_TC_INGRESS;
		if (!(error = bpf_tc_attach(&hook, &first)))
			error = bpf_tc_attach(&hook, &second);
		hook.attach_point = BPF_TC_EGRESS;
		if (!error)
			error = bpf_tc_attach(&hook, &third);
	}
	if (error)
		answer_skip("other", "z_clsact", strerror(-error));
}

/* Programs of tcx and netkit that are attached without a link, by their descriptors. */
static void attach_without_link(const char *name, int ifindex, enum bpf_attach_type type)
{
	if (bpf_prog_attach_opts(object_prog(net_object, name), ifindex, type, NULL))
		answer_skip("other", name, strerror(errno));
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
	if (loaded("z_clsact") && loaded("z_netkit")) {
		attach_without_link("z_clsact", lo, BPF_TCX_EGRESS);
		classic_filters(lo, object_prog(net_object, "z_clsact"), object_prog(net_object, "z_netkit"));
	}
	if ((p = loaded("z_netkit"))) {
		if ((netkit_index = make_netkit())) {
			tell("z_netkit", bpf_program__attach_netkit(p, netkit_index, NULL), NULL);
			attach_without_link("z_netkit", netkit_index, BPF_NETKIT_PEER);
		} else {
			answer_skip("link", "z_netkit", strerror(errno));
		}
	}
	atexit(take_away);
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

/* Only the loader runs these programs: they are attached to no hook. */
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
