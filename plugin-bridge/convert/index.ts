// VMware and Proxmox VMs become Hyper-V VMs (docs/conversion.md): their configuration is read into one
// description, their images become VHDX files, and a VM is registered over them.

export {
  type ConversionPlan,
  type ConversionRequest,
  type ConversionSeams,
  makeDisks,
  planConversion,
  previewOf,
} from './convert-vm.js';
export { type ConvertedDisk, definitionOf } from './definition.js';
export { parseConfiguration } from './find-images.js';
export type { ForeignAdapter, ForeignDisk, ForeignVm } from './foreign-vm.js';
export { planRegistration, registerConverted } from './register.js';
export { openConversion } from './restore.js';
