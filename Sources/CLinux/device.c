// The only file that sees linux/if.h: it clashes with net/if.h, which Swift's Glibc module includes.
#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/virtio_net.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

_Static_assert(sizeof(struct virtio_net_hdr) == 10, "the header that precedes every packet");
_Static_assert(IFNAMSIZ == 16, "15 bytes of name and a NUL");
_Static_assert(CLINUX_TUN_CSUM == TUN_F_CSUM && CLINUX_TUN_TSO4 == TUN_F_TSO4 && CLINUX_TUN_TSO6 == TUN_F_TSO6, "");
_Static_assert(sizeof(struct nlmsghdr) == 16 && sizeof(struct ifinfomsg) == 16, "");
_Static_assert(sizeof(struct ifaddrmsg) == 8 && sizeof(struct rtmsg) == 12, "");
_Static_assert(CLINUX_NLMSG_ERROR == NLMSG_ERROR && CLINUX_NLMSG_DONE == NLMSG_DONE, "");
_Static_assert(CLINUX_NLM_F_DUMP == NLM_F_DUMP && CLINUX_NLM_F_CREATE == NLM_F_CREATE, "");
_Static_assert(CLINUX_NLM_F_REPLACE == NLM_F_REPLACE && CLINUX_NLM_F_EXCL == NLM_F_EXCL, "");
_Static_assert(CLINUX_NLM_F_CAPPED == NLM_F_CAPPED && CLINUX_NLM_F_ACK_TLVS == NLM_F_ACK_TLVS, "");
_Static_assert(CLINUX_RTM_NEWLINK == RTM_NEWLINK && CLINUX_RTM_DELLINK == RTM_DELLINK, "");
_Static_assert(CLINUX_RTM_GETLINK == RTM_GETLINK && CLINUX_RTM_GETADDR == RTM_GETADDR, "");
_Static_assert(CLINUX_RTM_NEWADDR == RTM_NEWADDR && CLINUX_RTM_DELADDR == RTM_DELADDR, "");
_Static_assert(CLINUX_RTM_NEWROUTE == RTM_NEWROUTE && CLINUX_RTM_DELROUTE == RTM_DELROUTE, "");
_Static_assert(CLINUX_RTM_GETROUTE == RTM_GETROUTE, "");
_Static_assert(CLINUX_IFLA_IFNAME == IFLA_IFNAME && CLINUX_IFLA_MTU == IFLA_MTU, "");
_Static_assert(CLINUX_IFLA_TXQLEN == IFLA_TXQLEN && CLINUX_IFLA_LINKINFO == IFLA_LINKINFO, "");
_Static_assert(CLINUX_IFLA_GROUP == IFLA_GROUP, "");
_Static_assert(CLINUX_IFLA_INFO_KIND == IFLA_INFO_KIND, "");
_Static_assert(CLINUX_IFA_ADDRESS == IFA_ADDRESS && CLINUX_IFA_LOCAL == IFA_LOCAL, "");
_Static_assert(CLINUX_IFA_FLAGS == IFA_FLAGS && CLINUX_IFA_F_NODAD == IFA_F_NODAD, "");
_Static_assert(CLINUX_RTA_DST == RTA_DST && CLINUX_RTA_OIF == RTA_OIF && CLINUX_RTA_GATEWAY == RTA_GATEWAY, "");
_Static_assert(CLINUX_RTA_PRIORITY == RTA_PRIORITY && CLINUX_RTA_TABLE == RTA_TABLE, "");
_Static_assert(CLINUX_RT_TABLE_MAIN == RT_TABLE_MAIN && CLINUX_RTPROT_STATIC == RTPROT_STATIC, "");
_Static_assert(CLINUX_RT_SCOPE_UNIVERSE == RT_SCOPE_UNIVERSE && CLINUX_RT_SCOPE_LINK == RT_SCOPE_LINK, "");
_Static_assert(CLINUX_RTNH_F_ONLINK == RTNH_F_ONLINK, "");
_Static_assert(CLINUX_RTN_UNICAST == RTN_UNICAST && CLINUX_NLMSGERR_ATTR_MSG == NLMSGERR_ATTR_MSG, "");

int clinux_tun_open(const char *name, int is_tap, int has_virtio_header, int is_new) {
    struct ifreq request;
    memset(&request, 0, sizeof request);
    if (strlen(name) >= IFNAMSIZ) return -ENAMETOOLONG;
    strcpy(request.ifr_name, name);
    request.ifr_flags = (short)((is_tap ? IFF_TAP : IFF_TUN) | IFF_NO_PI | (is_new ? IFF_TUN_EXCL : 0)
                                | (has_virtio_header ? IFF_VNET_HDR : 0));
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return -errno;
    if (ioctl(fd, TUNSETIFF, &request) < 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

int clinux_tun_set_virtio_header_size(int fd, int size) {
    return ioctl(fd, TUNSETVNETHDRSZ, &size) < 0 ? -errno : 0;
}

int clinux_tun_set_offload(int fd, unsigned int bits) {
    return ioctl(fd, TUNSETOFFLOAD, (unsigned long)bits) < 0 ? -errno : 0;
}

int clinux_netlink_socket(void) {
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0) return -errno;
    int on = 1;
    // The kernel's explanation of a refusal, where it has one; older kernels do without.
    (void)setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on);
    (void)setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on);
    struct sockaddr_nl local = {.nl_family = AF_NETLINK};
    if (bind(fd, (struct sockaddr *)&local, sizeof local) < 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}
