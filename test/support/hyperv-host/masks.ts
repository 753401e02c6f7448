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
