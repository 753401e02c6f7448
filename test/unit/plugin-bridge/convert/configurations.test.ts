import { expect } from 'chai';
import fc from 'fast-check';
import { randomGuid } from '../../../../shared/bytes/index.js';
import { systemRandom } from '../../../../shared/clock.js';
import { DrError } from '../../../../shared/errors.js';
import { definitionOf } from '../../../../plugin-bridge/convert/definition.js';
import type { ForeignVm } from '../../../../plugin-bridge/convert/foreign-vm.js';
import { parseQemuConfig } from '../../../../plugin-bridge/convert/qemu-config.js';
import { parseVmx } from '../../../../plugin-bridge/convert/vmx.js';

const VMX = `.encoding = "UTF-8"
config.version = "8"
displayName = "Büro |22A|22 = 1"
firmware = "efi"
memSize = "4096"
numvcpus = "4"
scsi0.present = "TRUE"
scsi0:1.present = "TRUE"
scsi0:1.fileName = "data.vmdk"
scsi0:0.present = "TRUE"
scsi0:0.fileName = "/vmfs/volumes/store/SQL/boot.vmdk"
scsi0:2.present = "FALSE"
scsi0:2.fileName = "gone.vmdk"
ide1:0.present = "TRUE"
ide1:0.deviceType = "cdrom-image"
ide1:0.fileName = "/iso/setup.iso"
sata0:0.present = "TRUE"
sata0:0.fileName = "third.vmdk"
bios.hddOrder = "sata0:0,scsi0:0"
ethernet1.present = "TRUE"
ethernet1.networkName = "Backup"
ethernet1.startConnected = "FALSE"
ethernet0.present = "TRUE"
ethernet0.networkName = "VM Network"
ethernet0.generatedAddress = "00:0c:29:ab:cd:ef"
vtpm.present = "TRUE"
`;

const QEMU = `#a description: with a colon
bios: ovmf
boot: order=scsi1;ide2;net0
cores: 2
sockets: 2
memory: 2048
name: web-1
net0: virtio=BC:24:11:AB:CD:EF,bridge=vmbr0,firewall=1,tag=20
net1: e1000,bridge=vmbr1,link_down=1
efidisk0: local-lvm:vm-100-disk-0,efitype=4m,size=4M
ide2: local:iso/debian.iso,media=cdrom
scsi0: local-lvm:vm-100-disk-1,size=8G
scsi1: local:100/vm-100-disk-2.qcow2,iothread=1,size=8G
hostpci0: 0000:01:00.0
unused0: local-lvm:vm-100-disk-9

[before-update]
name: older
scsi0: local-lvm:vm-100-old
`;

const parse = (text: string, kind: 'vmx' | 'conf' = 'vmx'): ForeignVm =>
  kind === 'vmx'
    ? parseVmx('a.vmx', Buffer.from(text))
    : parseQemuConfig('100.conf', Buffer.from(text));

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof DrError) return error.code;
    throw error;
  }
  return 'nothing';
}

describe('configurations of foreign VMs', () => {
  it('a .vmx tells name, firmware, disks in the order of its boot, adapters and what is left out', () => {
    const vm = parse(VMX);
    expect(vm.name).to.equal('Büro "A" = 1');
    expect(vm.firmware).to.equal('uefi');
    expect(vm.memoryBytes).to.equal(4096 * 1024 * 1024);
    expect(vm.cpuCount).to.equal(4);
    expect(vm.disks.map(({ slot }) => slot)).to.deep.equal(['sata0:0', 'scsi0:0', 'scsi0:1']);
    expect(vm.adapters).to.deep.equal([
      { name: 'ethernet0', mac: '000C29ABCDEF', network: 'VM Network', vlan: undefined },
      { name: 'ethernet1', mac: undefined, network: undefined, vlan: undefined },
    ]);
    expect(vm.notes.join('\n'))
      .to.match(/CD drive ide1:0/)
      .and.match(/virtual TPM/);
  });

  it('a Proxmox configuration does, and its snapshots are left out', () => {
    const vm = parse(QEMU, 'conf');
    expect(vm.name).to.equal('web-1');
    expect(vm.firmware).to.equal('uefi');
    expect(vm.cpuCount).to.equal(4);
    expect(vm.disks).to.deep.equal([
      { slot: 'scsi1', image: 'local:100/vm-100-disk-2.qcow2' },
      { slot: 'scsi0', image: 'local-lvm:vm-100-disk-1' },
    ]);
    expect(vm.adapters).to.deep.equal([
      { name: 'net0', mac: 'BC2411ABCDEF', network: 'vmbr0', vlan: 20 },
      { name: 'net1', mac: undefined, network: undefined, vlan: undefined },
    ]);
    expect(vm.notes.join('\n'))
      .to.match(/UEFI variables/)
      .and.match(/hostpci0/);
  });

  it('a text in the encoding that it names is read in it', () => {
    const text = '.encoding = "windows-1252"\ndisplayName = "B\xfcro"\n';
    const disk = 'ide0:0.present = "TRUE"\nide0:0.fileName = "a.vmdk"\n';
    const vm = parseVmx('a.vmx', Buffer.from(text + disk, 'latin1'));
    expect(vm.name).to.equal('Büro');
    expect(codeOf(() => parse('.encoding = "klingon"\ndisplayName = "a"'))).to.equal(
      'E_CONVERT_CONFIG',
    );
  });

  it('what describes no VM is refused', () => {
    const disk = 'scsi0:0.present = "TRUE"\nscsi0:0.fileName = "a.vmdk"\n';
    const bad = [
      '',
      disk,
      'displayName = "no disk"',
      `${disk}displayName = "x"\nmemSize = "-1"`,
      `${disk}displayName = "x"\nnumvcpus = "9e9"`,
      `${disk}displayName = "x"\nencryption.keySafe = "vmware:key/list"`,
      `${disk}displayName = "${'x'.repeat(5000)}"`,
      'displayName = "x"\n'.repeat(30_000),
      `displayName = "a\0b"\n${disk}`,
    ];
    for (const text of bad)
      expect(
        codeOf(() => parse(text)),
        text.slice(0, 60),
      ).to.equal('E_CONVERT_CONFIG');
    for (const text of [
      '',
      'name: a',
      'name: a\nscsi0: none,media=cdrom',
      'name: a\nscsi0: x\nmemory: much',
    ]) {
      expect(
        codeOf(() => parse(text, 'conf')),
        text,
      ).to.equal('E_CONVERT_CONFIG');
    }
  });

  it('any text gives a VM or a typed error', () => {
    const line = fc.oneof(
      fc.string({ maxLength: 60 }),
      fc.constantFrom(...VMX.split('\n'), ...QEMU.split('\n')),
    );
    fc.assert(
      fc.property(fc.array(line, { maxLength: 40 }), fc.boolean(), (lines, isVmx) => {
        const code = codeOf(() => parse(lines.join('\n'), isVmx ? 'vmx' : 'conf'));
        expect(code).to.be.oneOf(['nothing', 'E_CONVERT_CONFIG']);
      }),
    );
  });
});

describe('the Hyper-V VM of a foreign one', () => {
  const disks = (count: number): Parameters<typeof definitionOf>[1] =>
    Array.from({ length: count }, (_, index) => ({
      diskId: randomGuid(systemRandom),
      path: `/vm/${index}.vhdx`,
      sizeBytes: 1024 ** 3,
      logicalSectorBytes: 512,
      physicalSectorBytes: 4096,
    }));
  const newGuid = (): ReturnType<typeof randomGuid> => randomGuid(systemRandom);
  const foreign = (firmware: 'bios' | 'uefi', memoryBytes = 1000 * 1024 * 1024 + 1): ForeignVm => ({
    ...parse(VMX),
    firmware,
    memoryBytes,
  });

  it('of generation 1 boots from IDE and has the other disks on SCSI', () => {
    const vm = definitionOf(foreign('bios'), disks(66), { name: 'a', newGuid });
    expect(vm.generation).to.equal(1);
    const places = vm.disks.map(
      (disk) => `${disk.controller}${disk.controllerNumber}:${disk.controllerLocation}`,
    );
    expect(places.slice(0, 3)).to.deep.equal(['ide0:0', 'scsi0:0', 'scsi0:1']);
    expect(places[65]).to.equal('scsi1:0');
    expect(vm.memoryBytes % (2 * 1024 * 1024)).to.equal(0);
  });

  it('of generation 2 has all on SCSI, and more than four controllers hold are refused', () => {
    const vm = definitionOf(foreign('uefi'), disks(2), { name: 'a', newGuid });
    expect(vm.generation).to.equal(2);
    expect(vm.disks[0]).to.include({
      controller: 'scsi',
      controllerNumber: 0,
      controllerLocation: 0,
    });
    expect(
      codeOf(() => definitionOf(foreign('uefi'), disks(257), { name: 'a', newGuid })),
    ).to.equal('E_CONVERT_CONFIG');
    expect(
      definitionOf(foreign('uefi'), disks(1), { name: 'a', generation: 1, newGuid }).generation,
    ).to.equal(1);
  });

  it('has at least the memory that a host gives', () => {
    const vm = definitionOf(foreign('bios', 1), disks(1), { name: 'a', newGuid });
    expect(vm.memoryBytes).to.equal(32 * 1024 * 1024);
  });
});
