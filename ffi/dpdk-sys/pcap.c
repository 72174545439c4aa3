/*
 * libpcap can capture from D-Bus as well, for which its archive wants libdbus and that libsystemd, of which Debian has no
 * archive. net_pcap opens files and interfaces: here is a D-Bus that has nothing to capture from, by the names that
 * libpcap's list of sources has (pcap-dbus.h).
 */
#include <stddef.h>

struct pcap;
struct pcap_if_list;

int dbus_findalldevs(struct pcap_if_list *devices, char *error)
{
	(void)devices;
	(void)error;
	return 0;
}

struct pcap *dbus_create(const char *device, char *error, int *is_ours)
{
	(void)device;
	(void)error;
	*is_ours = 0;
	return NULL;
}
