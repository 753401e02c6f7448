// What the scripts may name beside the recorded facts: how our parameters are typed, what cmdlets give, and the names
// of .NET and of PowerShell itself, which no collection of facts about Hyper-V has.

/**
 * `wmi X`, `ps X`, `class X` (a CimClass), `out X.M` (what method M of class X gives; `out`: what any gives),
 * `command X`, `parameters X`, `text X` (a name of the enumeration X), `number X.P` (a value of the property P),
 * `arguments`, `hash`, or `net`: an object of .NET or of ours.
 */
export type Type = string;

/** In all scripts a parameter of a function of ours means one thing. */
export const PARAMETERS: Readonly<Record<string, Type>> = {
  Arguments: 'arguments',
  Request: 'request',
  Vm: 'ps VirtualMachine',
  Drive: 'ps HardDiskDrive',
  System: 'wmi Msvm_ComputerSystem',
  Settings: 'wmi Msvm_VirtualSystemSettingData',
  Port: 'wmi Msvm_SyntheticEthernetPortSettingData',
  Components: 'wmi Msvm_KvpExchangeComponent',
  Job: 'wmi Msvm_ConcreteJob',
  Out: 'out',
  Level: 'number Msvm_VirtualSystemReferencePoint.ConsistencyLevel',
};

/** What cmdlets give; the collection of facts has their parameters only. */
export const CMDLET_TYPES: Readonly<Record<string, Type>> = {
  'Get-VM': 'ps VirtualMachine',
  'New-VM': 'ps VirtualMachine',
  'Get-VMHardDiskDrive': 'ps HardDiskDrive',
  'Get-VMNetworkAdapter': 'ps VMNetworkAdapter',
  'Add-VMNetworkAdapter': 'ps VMNetworkAdapter',
  'Get-VMNetworkAdapterVlan': 'ps VMNetworkAdapterVlanSetting',
  'Get-VMSwitch': 'ps VMSwitch',
  'Get-VMFirmware': 'ps VMFirmware',
  'Get-VMBios': 'ps VMBios',
  'Get-VMSecurity': 'ps VMSecurity',
  'Get-VMHost': 'ps VMHost',
  'Get-VMIntegrationService': 'ps VMIntegrationComponent',
  'Get-VMHostSupportedVersion': 'ps VMHostSupportedVersion',
  'Get-VHD': 'ps Microsoft.Vhd.PowerShell.VirtualHardDisk',
  'Get-VMReplication': 'ps VMReplication',
  'Measure-VMReplication': 'ps VMReplicationHealth',
  'Get-VMSnapshot': 'ps VMSnapshot',
  'Checkpoint-VM': 'ps VMSnapshot',
};

/** Types that the collection does not have, with the members that the scripts use (hyperv.md § 3.2, § 3.6). */
export const OTHER_TYPES: Readonly<Record<string, Readonly<Record<string, Type>>>> = {
  'net ClusterGroup': { Name: 'net', OwnerNode: 'net Named', State: 'net' },
  'net BootDevice': { Id: 'net' },
  'ps VMBootSource': { BootType: 'net', Device: 'net BootDevice' },
  'net ClusterSharedVolume': { SharedVolumeInfo: 'net SharedVolumeInfo' },
  'net SharedVolumeInfo': { FriendlyVolumeName: 'net' },
  'net Named': { Name: 'net' },
  'net SecureBootTemplate': { Id: 'net', Name: 'net' },
  'net Service': { Status: 'net' },
};
export const OTHER_OUTPUTS: Readonly<Record<string, Type>> = {
  'Get-ClusterGroup': 'net ClusterGroup',
  'Get-ClusterSharedVolume': 'net ClusterSharedVolume',
  'Get-Service': 'net Service',
};

/** Members of .NET, of an ErrorRecord, of XML, and of what PowerShell puts around an object. */
export const NET_MEMBERS = new Set([
  ...[
    'ToString',
    'ToUpperInvariant',
    'ToUniversalTime',
    'Replace',
    'Split',
    'Substring',
    'Length',
    'Count',
  ],
  ...[
    'ContainsKey',
    'Add',
    'ToArray',
    'Value',
    'Properties',
    'InnerText',
    'SelectSingleNode',
    'Serialize',
  ],
  ...['Exception', 'Message', 'HResult', 'CategoryInfo', 'Category', 'FullyQualifiedErrorId'],
  ...[
    'ReadLine',
    'Write',
    'AutoFlush',
    'PSObject',
    'CimInstanceProperties',
    'GetString',
    'GetBytes',
  ],
  ...['Create', 'None', 'Unicode', 'UTF8', 'ASCII', 'InvariantCulture', 'Min', 'ToBase64String'],
  ...[
    'FromBase64String',
    'OpenStandardInput',
    'OpenStandardOutput',
    'MachineName',
    'OSVersion',
    'Version',
  ],
  ...['IsNullOrEmpty', 'ToUInt32', 'Id', 'GetType', 'FullName', 'NativeErrorCode'],
]);
/** Members that every object has. */
export const OBJECT_MEMBERS = new Set(['ToString', 'Count', 'PSObject']);

/** What the numbers mean that scripts give or compare with; the facts have the number of each name. */
export const MEANT_NUMBERS: Readonly<Record<string, readonly string[]>> = {
  ConsistencyLevel: ['Application Consistent', 'Crash Consistent'],
  GuestBackupType: ['Copy'],
  RequestedState: ['Terminate'],
  ResourceType: ['Logical Disk'],
  SnapshotType: ['Recovery'],
};

/** Constants of the scripts, with the property whose value each is; the namespace is that of every class. */
export const CONSTANTS: Readonly<Record<string, string>> = {
  HvdrNamespace: 'namespace',
  HvdrRecoveryType: 'VirtualSystemType',
};

export const NAMESPACE = String.raw`root\virtualization\v2`;

/** Out parameter of every method of WMI: its verdict. */
export const RETURN_VALUE = 'ReturnValue';

/** Arguments that have to be one of these texts. */
export const FIXED_ARGUMENTS: Readonly<
  Record<string, Readonly<Record<string, readonly string[]>>>
> = {
  'Get-Service': { Name: ['ClusSvc*'] },
  'Set-StrictMode': { Version: ['2.0'] },
};

/** Texts that members of types without an enumeration in the facts are compared with. */
export const OTHER_VALUES: Readonly<Record<string, readonly string[]>> = {
  'net Service.Status': ['Running', 'Stopped', 'Paused'],
};

/** Variables of PowerShell that host.ps1 sets, and to what. */
export const PREFERENCES: Readonly<Record<string, string>> = {
  ErrorActionPreference: 'Stop',
  ProgressPreference: 'SilentlyContinue',
  WarningPreference: 'SilentlyContinue',
  InformationPreference: 'SilentlyContinue',
  VerbosePreference: 'SilentlyContinue',
  DebugPreference: 'SilentlyContinue',
  ConfirmPreference: 'None',
};

export const NET_TYPES = new Set([
  'Microsoft.Management.Infrastructure.CimException',
  ...['bool', 'byte', 'guid', 'int', 'int16', 'int64', 'string', 'string[]', 'uint16', 'uint64'],
  ...['version', 'xml', 'Console', 'Convert', 'Math'],
  ...['System.BitConverter', 'System.Environment', 'System.Globalization.CultureInfo'],
  ...['System.Text.Encoding', 'System.IO.StreamReader', 'System.IO.StreamWriter'],
  ...['System.InvalidOperationException', 'System.Collections.ArrayList'],
  'System.Management.Automation.ErrorRecord',
  'Microsoft.Management.Infrastructure.Serialization.CimSerializer',
  'Microsoft.Management.Infrastructure.Serialization.InstanceSerializationOptions',
]);
export const ERROR_CATEGORIES = new Set(['ObjectNotFound', 'InvalidOperation', 'InvalidArgument']);

/** How a property of an embedded instance is found in its CIM-XML (DSP0201). */
export const CIM_XML_PATH = /^\/\/(PROPERTY)\[@(NAME)='(\w+)'\]\/(VALUE)$/;
