# VMs: what there are, what each is made of, its power and its parts (operations/machines.ts).

function Get-HvdrSummary {
    param($Vm, $System)
    return @{
        'id' = $Vm.Id.ToString()
        'name' = $Vm.Name
        'state' = $Vm.State.ToString()
        'operationalStatus' = @($System.OperationalStatus | ForEach-Object -Process { [int]$_ })
        'isClustered' = [bool]$Vm.IsClustered
        'notes' = [string]$Vm.Notes
    }
}

function Invoke-HvdrMachineList {
    param($Arguments)
    $systems = @{}
    foreach ($system in @(Get-CimInstance -Namespace $HvdrNamespace -ClassName 'Msvm_ComputerSystem')) {
        $systems[$system.Name.ToUpperInvariant()] = $system
    }
    $machines = @()
    foreach ($vm in @(Get-VM)) {
        $name = $vm.Id.ToString().ToUpperInvariant()
        # one that came or went between the two looks is seen by the next
        if ($systems.ContainsKey($name)) {
            $machines += Get-HvdrSummary -Vm $vm -System $systems[$name]
        }
    }
    return @{
        'machines' = @($machines)
    }
}

function Get-HvdrMachineDisks {
    param($Vm, $Settings)
    $instanceIds = @{}
    foreach ($file in @(Get-HvdrStorage -Settings $Settings)) {
        $instanceIds[$file['path'].ToUpperInvariant()] = $file['instanceId']
    }
    $disks = @()
    foreach ($drive in @(Get-VMHardDiskDrive -VM $Vm)) {
        $path = ''
        $instanceId = ''
        $isPassThrough = $null -ne $drive.DiskNumber
        if (-not $isPassThrough) {
            $path = [string]$drive.Path
            $instanceId = [string]$instanceIds[$path.ToUpperInvariant()]
        }
        $disks += @{
            'controllerType' = $drive.ControllerType.ToString()
            'controllerNumber' = $drive.ControllerNumber
            'controllerLocation' = $drive.ControllerLocation
            'path' = $path
            'instanceId' = $instanceId
            'isPassThrough' = $isPassThrough
            'isShared' = $drive.SupportPersistentReservations -eq $true
        }
    }
    return $disks
}

function Get-HvdrMachineAdapters {
    param($Vm)
    $adapters = @()
    foreach ($adapter in @(Get-VMNetworkAdapter -VM $Vm)) {
        $switchId = $null
        $switchName = $null
        if ($adapter.Connected) {
            $switchId = ConvertTo-HvdrText -Value $adapter.SwitchId
            $switchName = $adapter.SwitchName
        }
        $vlanId = $null
        $vlan = Get-VMNetworkAdapterVlan -VMNetworkAdapter $adapter
        if ($vlan.OperationMode.ToString() -eq 'Access') {
            $vlanId = [int]$vlan.AccessVlanId
        }
        $adapters += @{
            'id' = $adapter.Id.Split('\')[-1]
            'name' = $adapter.Name
            'mac' = $adapter.MacAddress
            'isMacDynamic' = [bool]$adapter.DynamicMacAddressEnabled
            'isLegacy' = [bool]$adapter.IsLegacy
            'switchId' = $switchId
            'switchName' = $switchName
            'vlanId' = $vlanId
        }
    }
    return $adapters
}

function Invoke-HvdrMachineGet {
    param($Arguments)
    $system = Get-HvdrSystem -VmId $Arguments.vmId
    $vm = Get-VM -Id ([guid]$system.Name)
    $active = Get-HvdrActiveSettings -System $system
    $security = Get-VMSecurity -VM $vm
    $isSecureBoot = $null
    $templateId = $null
    if ($vm.Generation -eq 2) {
        $firmware = Get-VMFirmware -VM $vm
        $isSecureBoot = $firmware.SecureBoot.ToString() -eq 'On'
        $templateId = ConvertTo-HvdrText -Value $firmware.SecureBootTemplateId
    }
    $lastAppliedId = $null
    foreach ($applied in @(Get-CimAssociatedInstance -InputObject $system -Association 'Msvm_LastAppliedSnapshot' -ResultClassName 'Msvm_VirtualSystemSettingData')) {
        $lastAppliedId = $applied.InstanceID
    }
    $facts = Get-HvdrSummary -Vm $vm -System $system
    $facts['generation'] = [int]$vm.Generation
    $facts['version'] = $vm.Version
    $facts['startAction'] = $vm.AutomaticStartAction.ToString()
    $facts['stopAction'] = $vm.AutomaticStopAction.ToString()
    $facts['configurationFolder'] = $vm.ConfigurationLocation
    $facts['cpuCount'] = [int]$vm.ProcessorCount
    $facts['startupMemoryBytes'] = $vm.MemoryStartup.ToString()
    $facts['isMemoryDynamic'] = [bool]$vm.DynamicMemoryEnabled
    $facts['minimumMemoryBytes'] = $vm.MemoryMinimum.ToString()
    $facts['maximumMemoryBytes'] = $vm.MemoryMaximum.ToString()
    $facts['isSecureBoot'] = $isSecureBoot
    $facts['secureBootTemplateId'] = $templateId
    $facts['hasTpm'] = [bool]$security.TpmEnabled
    $facts['isShielded'] = [bool]$security.Shielded
    $facts['bootOrder'] = @(Get-HvdrBootOrder -Vm $vm)
    $facts['firmwareIds'] = Get-HvdrFirmwareIds -Settings $active
    $facts['services'] = @(Get-HvdrServices -Vm $vm)
    $facts['parentCheckpointId'] = ConvertTo-HvdrText -Value $vm.ParentSnapshotId
    $facts['lastAppliedId'] = $lastAppliedId
    $facts['disks'] = @(Get-HvdrMachineDisks -Vm $vm -Settings $active)
    $facts['adapters'] = @(Get-HvdrMachineAdapters -Vm $vm)
    return $facts
}

function Invoke-HvdrMachineStatus {
    param($Arguments)
    $system = Get-HvdrSystem -VmId $Arguments.vmId
    $vm = Get-VM -Id ([guid]$system.Name)
    return @{
        'state' = $vm.State.ToString()
        'operationalStatus' = @($system.OperationalStatus | ForEach-Object -Process { [int]$_ })
    }
}

function Invoke-HvdrMachineStart {
    param($Arguments)
    $vm = Get-HvdrVm -VmId $Arguments.vmId
    Start-VM -VM $vm
    return @{
        'done' = 'yes'
    }
}

function Invoke-HvdrMachineRequestShutdown {
    param($Arguments)
    $system = Get-HvdrSystem -VmId $Arguments.vmId
    $components = @(Get-CimAssociatedInstance -InputObject $system -Association 'Msvm_SystemDevice' -ResultClassName 'Msvm_ShutdownComponent')
    if ($components.Count -eq 0) {
        throw (New-HvdrMissing -Message 'the VM has no shutdown component: it is off, or the service is disabled')
    }
    $component = $components[0]
    $out = Invoke-CimMethod -InputObject $component -MethodName 'InitiateShutdown' -Arguments @{
        'Force' = $false
        'Reason' = $Arguments.reason
    }
    return Get-HvdrVerdict -Out $out
}

function Invoke-HvdrMachineTurnOff {
    param($Arguments)
    $vm = Get-HvdrVm -VmId $Arguments.vmId
    Stop-VM -VM $vm -TurnOff -Force -Confirm:$false
    return @{
        'done' = 'yes'
    }
}

function Invoke-HvdrMachineDropSavedState {
    param($Arguments)
    $vm = Get-HvdrVm -VmId $Arguments.vmId
    Remove-VMSavedState -VM $vm -Confirm:$false
    return @{
        'done' = 'yes'
    }
}

function Invoke-HvdrMachineCreate {
    param($Arguments)
    $wish = @{
        'Name' = $Arguments.name
        'Path' = $Arguments.folder
        'Generation' = [int16]$Arguments.generation
        'MemoryStartupBytes' = [int64]$Arguments.memoryBytes
        'NoVHD' = $true
    }
    if ($null -ne $Arguments.version) {
        $wish['Version'] = [version]$Arguments.version
    }
    $vm = New-VM @wish
    try {
        # never started by the host itself, whatever else has not been done yet
        Set-VM -VM $vm -AutomaticStartAction 'Nothing' -AutomaticStopAction 'ShutDown'
        foreach ($adapter in @(Get-VMNetworkAdapter -VM $vm)) {
            Remove-VMNetworkAdapter -VMNetworkAdapter $adapter -Confirm:$false
        }
        # Windows Server 2016 makes no automatic checkpoints
        if ((Get-Command -Name 'Set-VM').Parameters.ContainsKey('AutomaticCheckpointsEnabled')) {
            Set-VM -VM $vm -AutomaticCheckpointsEnabled $false
        }
    } catch {
        $failure = $_
        Remove-VM -VM $vm -Force -Confirm:$false
        throw $failure
    }
    return @{
        'vmId' = $vm.Id.ToString()
    }
}

function Invoke-HvdrMachineRemoveDvdDrives {
    param($Arguments)
    $vm = Get-HvdrVm -VmId $Arguments.vmId
    foreach ($drive in @(Get-VMDvdDrive -VM $vm)) {
        Remove-VMDvdDrive -VMDvdDrive $drive -Confirm:$false
    }
    return @{
        'done' = 'yes'
    }
}

function Invoke-HvdrMachineRemove {
    param($Arguments)
    $vm = Get-HvdrVm -VmId $Arguments.vmId
    Remove-VM -VM $vm -Force -Confirm:$false
    return @{
        'done' = 'yes'
    }
}

function Invoke-HvdrMachineSetProcessors {
    param($Arguments)
    $vm = Get-HvdrVm -VmId $Arguments.vmId
    Set-VMProcessor -VM $vm -Count $Arguments.count
    return @{
        'done' = 'yes'
    }
}

function Invoke-HvdrMachineSetMemory {
    param($Arguments)
    $vm = Get-HvdrVm -VmId $Arguments.vmId
    $wish = @{
        'DynamicMemoryEnabled' = [bool]$Arguments.isDynamic
        'StartupBytes' = [int64]$Arguments.startupBytes
    }
    if ($Arguments.isDynamic) {
        $wish['MinimumBytes'] = [int64]$Arguments.minimumBytes
        $wish['MaximumBytes'] = [int64]$Arguments.maximumBytes
    }
    Set-VMMemory -VM $vm @wish
    return @{
        'done' = 'yes'
    }
}

function Invoke-HvdrMachineSetStartAction {
    param($Arguments)
    $vm = Get-HvdrVm -VmId $Arguments.vmId
    Set-VM -VM $vm -AutomaticStartAction $Arguments.action
    return @{
        'done' = 'yes'
    }
}

function Invoke-HvdrMachineRename {
    param($Arguments)
    $vm = Get-HvdrVm -VmId $Arguments.vmId
    Rename-VM -VM $vm -NewName $Arguments.name
    return @{
        'done' = 'yes'
    }
}

function Invoke-HvdrMachineSetNotes {
    param($Arguments)
    $vm = Get-HvdrVm -VmId $Arguments.vmId
    Set-VM -VM $vm -Notes $Arguments.notes
    return @{
        'done' = 'yes'
    }
}

function Invoke-HvdrMachineSetSecureBoot {
    param($Arguments)
    $vm = Get-HvdrVm -VmId $Arguments.vmId
    $wish = @{
        'EnableSecureBoot' = 'Off'
    }
    if ($Arguments.isOn) {
        $wish['EnableSecureBoot'] = 'On'
    }
    if ($null -ne $Arguments.templateId) {
        $wish['SecureBootTemplateId'] = [guid]$Arguments.templateId
    }
    Set-VMFirmware -VM $vm @wish
    return @{
        'done' = 'yes'
    }
}

function Invoke-HvdrMachineAddScsiController {
    param($Arguments)
    $vm = Get-HvdrVm -VmId $Arguments.vmId
    Add-VMScsiController -VM $vm
    return @{
        'done' = 'yes'
    }
}

function Invoke-HvdrMachineAddDisk {
    param($Arguments)
    $vm = Get-HvdrVm -VmId $Arguments.vmId
    $wish = @{
        'ControllerType' = $Arguments.controllerType
        'ControllerNumber' = $Arguments.controllerNumber
        'ControllerLocation' = $Arguments.controllerLocation
        'Path' = $Arguments.path
    }
    # the role may come after the disks
    if ($vm.IsClustered) {
        $wish['AllowUnverifiedPaths'] = $true
    }
    Add-VMHardDiskDrive -VM $vm @wish
    return @{
        'done' = 'yes'
    }
}

function Invoke-HvdrMachineSetDiskPath {
    param($Arguments)
    $vm = Get-HvdrVm -VmId $Arguments.vmId
    $place = @{
        'ControllerType' = $Arguments.controllerType
        'ControllerNumber' = $Arguments.controllerNumber
        'ControllerLocation' = $Arguments.controllerLocation
    }
    $drives = @(Get-VMHardDiskDrive -VM $vm @place)
    if ($drives.Count -eq 0) {
        throw (New-HvdrMissing -Message 'the VM has no disk at this place')
    }
    $wish = @{
        'Path' = $Arguments.path
    }
    if ($vm.IsClustered) {
        $wish['AllowUnverifiedPaths'] = $true
    }
    $drive = $drives[0]
    Set-VMHardDiskDrive -VMHardDiskDrive $drive @wish
    return @{
        'done' = 'yes'
    }
}
