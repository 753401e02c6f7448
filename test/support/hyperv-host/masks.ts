// Subnets as Hyper-V writes them: a mask for IPv4, a prefix length for IPv6.

/** Of `192.0.2.10/24` or `2001:db8::10/64`. */
export function maskOf(address: string): string {
  const [host = '', length = ''] = address.split('/');
  if (host.includes(':')) return length;
  const mask = (0xffff_ffff_0000_0000n >> BigInt(length)) & 0xffff_ffffn;
  return [24n, 16n, 8n, 0n].map((shift) => String((mask >> shift) & 0xffn)).join('.');
}

export function prefixOf(subnet: string): string {
  if (!subnet.includes('.')) return subnet;
  const bits = subnet.split('.').map((part) => Number(part).toString(2));
  return String(bits.join('').replaceAll('0', '').length);
}

/** IPv6 without `::`, upper case: one of the texts that a guest may write. */
export function inFull(address: string): string {
  if (!address.includes(':')) return address;
  const [head = '', tail = ''] = address.split('::');
  const groups = (text: string): string[] => text.split(':').filter((group) => group !== '');
  const zeros = 8 - groups(head).length - groups(tail).length;
  return [...groups(head), ...Array<string>(zeros).fill('0'), ...groups(tail)]
    .map((group) => group.toUpperCase().padStart(4, '0'))
    .join(':');
}
