# Switches and the adapters of VMs (operations/network.ts). Names may repeat: everything is found by its id.

function Get-HvdrAdapter {
    param($VmId, $AdapterId)
    $vm = Get-HvdrVm -VmId $VmId
    $id = ([guid]$AdapterId).ToString()
    foreach ($adapter in @(Get-VMNetworkAdapter -VM $vm)) {
        if ($adapter.Id.Split('\')[-1] -eq $id) {
            return $adapter
        }
    }
    throw (New-HvdrMissing -Message "the VM has no adapter $id")
}

function Invoke-HvdrSwitchList {
    param($Arguments)
    $switches = @()
    foreach ($vmSwitch in @(Get-VMSwitch)) {
        $switches += @{
            'id' = $vmSwitch.Id.ToString()
            'name' = $vmSwitch.Name
            'type' = $vmSwitch.SwitchType.ToString()
        }
    }
    return @{
        'switches' = @($switches)
    }
}

function Invoke-HvdrAdapterAdd {
    param($Arguments)
    $vm = Get-HvdrVm -VmId $Arguments.vmId
    $wish = @{
        'Name' = $Arguments.name
    }
    # generation 2 does not know the parameter
    if ($Arguments.isLegacy) {
        $wish['IsLegacy'] = $true
    }
    if ($null -eq $Arguments.mac) {
        $wish['DynamicMacAddress'] = $true
    } else {
        $wish['StaticMacAddress'] = $Arguments.mac
    }
    $adapter = Add-VMNetworkAdapter -VM $vm @wish -Passthru
    return @{
        'adapterId' = $adapter.Id.Split('\')[-1]
    }
}

function Invoke-HvdrAdapterConnect {
    param($Arguments)
    $adapter = Get-HvdrAdapter -VmId $Arguments.vmId -AdapterId $Arguments.adapterId
    $vmSwitch = Get-VMSwitch -Id ([guid]$Arguments.switchId)
    Connect-VMNetworkAdapter -VMNetworkAdapter $adapter -VMSwitch $vmSwitch
    return @{
        'done' = 'yes'
    }
}

function Invoke-HvdrAdapterDisconnect {
    param($Arguments)
    $adapter = Get-HvdrAdapter -VmId $Arguments.vmId -AdapterId $Arguments.adapterId
    Disconnect-VMNetworkAdapter -VMNetworkAdapter $adapter
    return @{
        'done' = 'yes'
    }
}

function Invoke-HvdrAdapterSetVlan {
    param($Arguments)
    $adapter = Get-HvdrAdapter -VmId $Arguments.vmId -AdapterId $Arguments.adapterId
    if ($null -eq $Arguments.vlanId) {
        Set-VMNetworkAdapterVlan -VMNetworkAdapter $adapter -Untagged
    } else {
        Set-VMNetworkAdapterVlan -VMNetworkAdapter $adapter -Access -VlanId $Arguments.vlanId
    }
    return @{
        'done' = 'yes'
    }
}

function Invoke-HvdrAdapterSetMac {
    param($Arguments)
    $adapter = Get-HvdrAdapter -VmId $Arguments.vmId -AdapterId $Arguments.adapterId
    Set-VMNetworkAdapter -VMNetworkAdapter $adapter -StaticMacAddress $Arguments.mac
    return @{
        'done' = 'yes'
    }
}
