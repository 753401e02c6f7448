# What is seen of the guest, and the addresses that it is given (operations/guest.ts).

function Get-HvdrStatuses {
    param($Components)
    $numbers = @()
    foreach ($component in $Components) {
        $numbers = @($component.OperationalStatus | ForEach-Object -Process { [int]$_ })
    }
    return $numbers
}

function Invoke-HvdrGuestSigns {
    param($Arguments)
    $system = Get-HvdrSystem -VmId $Arguments.vmId
    $heartbeat = @(Get-CimAssociatedInstance -InputObject $system -Association 'Msvm_SystemDevice' -ResultClassName 'Msvm_HeartbeatComponent')
    $keyExchange = @(Get-CimAssociatedInstance -InputObject $system -Association 'Msvm_SystemDevice' -ResultClassName 'Msvm_KvpExchangeComponent')
    return @{
        'heartbeat' = @(Get-HvdrStatuses -Components $heartbeat)
        'keyExchange' = @(Get-HvdrStatuses -Components $keyExchange)
    }
}

# Adapters that the guest's services know; emulated ones have no such settings.
function Get-HvdrPorts {
    param($System)
    $settings = Get-HvdrActiveSettings -System $System
    return @(Get-CimAssociatedInstance -InputObject $settings -Association 'Msvm_VirtualSystemSettingDataComponent' -ResultClassName 'Msvm_SyntheticEthernetPortSettingData')
}

function Get-HvdrGuestConfiguration {
    param($Port)
    return @(Get-CimAssociatedInstance -InputObject $Port -Association 'Msvm_SettingDataComponent' -ResultClassName 'Msvm_GuestNetworkAdapterConfiguration')
}

function Invoke-HvdrGuestAdapters {
    param($Arguments)
    $system = Get-HvdrSystem -VmId $Arguments.vmId
    $adapters = @()
    foreach ($port in @(Get-HvdrPorts -System $system)) {
        foreach ($configuration in @(Get-HvdrGuestConfiguration -Port $port)) {
            $adapters += @{
                'adapterId' = $port.InstanceID.Split('\')[-1]
                'isDhcp' = [bool]$configuration.DHCPEnabled
                'addresses' = @(ConvertTo-HvdrList -Value $configuration.IPAddresses)
                'subnets' = @(ConvertTo-HvdrList -Value $configuration.Subnets)
                'gateways' = @(ConvertTo-HvdrList -Value $configuration.DefaultGateways)
                'dnsServers' = @(ConvertTo-HvdrList -Value $configuration.DNSServers)
            }
        }
    }
    return @{
        'adapters' = @($adapters)
    }
}

function Invoke-HvdrGuestSetAdapter {
    param($Arguments)
    $system = Get-HvdrSystem -VmId $Arguments.vmId
    $adapterId = ([guid]$Arguments.adapterId).ToString()
    foreach ($port in @(Get-HvdrPorts -System $system)) {
        if ($port.InstanceID.Split('\')[-1] -eq $adapterId) {
            foreach ($configuration in @(Get-HvdrGuestConfiguration -Port $port)) {
                $configuration.CimInstanceProperties['DHCPEnabled'].Value = [bool]$Arguments.isDhcp
                $configuration.CimInstanceProperties['IPAddresses'].Value = [string[]]@($Arguments.addresses)
                $configuration.CimInstanceProperties['Subnets'].Value = [string[]]@($Arguments.subnets)
                $configuration.CimInstanceProperties['DefaultGateways'].Value = [string[]]@($Arguments.gateways)
                $configuration.CimInstanceProperties['DNSServers'].Value = [string[]]@($Arguments.dnsServers)
                $configuration.CimInstanceProperties['ProtocolIFType'].Value = [uint16]$Arguments.protocol
                $embedded = ConvertTo-HvdrEmbedded -Instance $configuration
                $service = Get-HvdrService -ClassName 'Msvm_VirtualSystemManagementService'
                $out = Invoke-CimMethod -InputObject $service -MethodName 'SetGuestNetworkAdapterConfiguration' -Arguments @{
                    'ComputerSystem' = $system
                    'NetworkConfiguration' = [string[]]@($embedded)
                }
                return Get-HvdrVerdict -Out $out
            }
        }
    }
    throw (New-HvdrMissing -Message "the VM has no synthetic adapter $adapterId")
}
