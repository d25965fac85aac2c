"""The MAVLink messages that this driver knows: `MESSAGES`, by identifier.

Facts from the message definitions of mavlink/mavlink (July 2026), dialect `ardupilotmega`, which includes `common`.
tests/data/mavlink/messages.csv has the same facts with offsets and units.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

#: By name: numbers, texts, or lists of numbers; in the units of the wire.
Fields = dict[str, Any]


class Field(NamedTuple):
    """`code` is that of `struct`, `length` that of an array, or 0. `invalid` is the number that says "not known";
    not-a-number says that of every field, and 0 of every extension.
    """

    name: str
    code: str
    length: int
    invalid: int | None
    extension: bool

    @property
    def format(self) -> str:
        return f"{self.length or ''}{self.code}"


class Message:
    """A kind of message. Fields are in the order of the wire, with the extensions of MAVLink 2 at the end.

    `length_v1` is the length in bytes without extensions, `length` with them.
    """

    def __init__(self, identifier: int, name: str, crc_extra: int, fields: tuple[Field, ...]) -> None:
        self.id = identifier
        self.name = name
        self.crc_extra = crc_extra
        self.fields = {field.name: field for field in fields}
        self._struct = struct.Struct("<" + "".join(field.format for field in fields))
        self.length = self._struct.size
        self.length_v1 = struct.calcsize("<" + "".join(field.format for field in fields if not field.extension))
        self._scalar = not any(field.length for field in fields)

    def decode(self, payload: bytes) -> Fields:
        """The fields of a payload. Missing bytes are zero; bytes of later definitions are ignored."""
        values = self._struct.unpack(payload[: self.length].ljust(self.length, b"\0"))
        if self._scalar:
            return dict(zip(self.fields, values, strict=True))
        found: Fields = {}
        left = iter(values)
        for field in self.fields.values():
            if field.code == "s":
                found[field.name] = next(left).partition(b"\0")[0].decode("utf-8", "replace")
            elif field.length:
                found[field.name] = [next(left) for _ in range(field.length)]
            else:
                found[field.name] = next(left)
        return found

    def encode(self, values: Mapping[str, float]) -> bytes:
        """The payload with these fields, and zero for all others. Raises ValueError for a field that does not exist, is
        an array, or cannot hold its value.
        """
        if unknown := [name for name in values if name not in self.fields or self.fields[name].length]:
            raise ValueError(f"{self.name} has no number {unknown[0]}")
        blank = bytearray(self.length)
        try:
            offset = 0
            for field in self.fields.values():
                if field.name in values:
                    struct.pack_into("<" + field.format, blank, offset, values[field.name])
                offset += struct.calcsize("<" + field.format)
        except (struct.error, OverflowError) as error:
            raise ValueError(f"{self.name}: {error}") from None
        return bytes(blank)

    def known(self, values: Fields, name: str) -> float | None:
        """The number `name`; None if it says that it is not known."""
        value: float = values[name]
        field = self.fields[name]
        if value == field.invalid or (field.extension and not value) or not math.isfinite(value):
            return None
        return value


# A line for each message: identifier, name, CRC_EXTRA, and its fields by type. The types are those of `struct`, with
# the length of an array before them; what stands for "not known" follows the equals sign, and `+` precedes extensions.
_TABLE = """
0 HEARTBEAT 50 I:custom_mode B:type,autopilot,base_mode,system_status,mavlink_version
1 SYS_STATUS 124 I:onboard_control_sensors_present,onboard_control_sensors_enabled,onboard_control_sensors_health
  H:load,voltage_battery=65535 h:current_battery=-1
  H:drop_rate_comm,errors_comm,errors_count1,errors_count2,errors_count3,errors_count4 b:battery_remaining=-1 +
  I:onboard_control_sensors_present_extended,onboard_control_sensors_enabled_extended
  I:onboard_control_sensors_health_extended
2 SYSTEM_TIME 137 Q:time_unix_usec I:time_boot_ms
22 PARAM_VALUE 220 f:param_value H:param_count,param_index 16s:param_id B:param_type
24 GPS_RAW_INT 24 Q:time_usec i:lat,lon,alt H:eph=65535,epv=65535,vel=65535,cog=65535
  B:fix_type,satellites_visible=255 + i:alt_ellipsoid I:h_acc,v_acc,vel_acc,hdg_acc H:yaw
26 SCALED_IMU 170 I:time_boot_ms h:xacc,yacc,zacc,xgyro,ygyro,zgyro,xmag,ymag,zmag + h:temperature
27 RAW_IMU 144 Q:time_usec h:xacc,yacc,zacc,xgyro,ygyro,zgyro,xmag,ymag,zmag + B:id h:temperature
29 SCALED_PRESSURE 115 I:time_boot_ms f:press_abs,press_diff h:temperature + h:temperature_press_diff
30 ATTITUDE 39 I:time_boot_ms f:roll,pitch,yaw,rollspeed,pitchspeed,yawspeed
31 ATTITUDE_QUATERNION 246 I:time_boot_ms f:q1,q2,q3,q4,rollspeed,pitchspeed,yawspeed + 4f:repr_offset_q
33 GLOBAL_POSITION_INT 104 I:time_boot_ms i:lat,lon,alt,relative_alt h:vx,vy,vz H:hdg=65535
36 SERVO_OUTPUT_RAW 222 I:time_usec
  H:servo1_raw,servo2_raw,servo3_raw,servo4_raw,servo5_raw,servo6_raw,servo7_raw,servo8_raw B:port +
  H:servo9_raw,servo10_raw,servo11_raw,servo12_raw,servo13_raw,servo14_raw,servo15_raw,servo16_raw
42 MISSION_CURRENT 28 H:seq + H:total=65535 B:mission_state,mission_mode
62 NAV_CONTROLLER_OUTPUT 183 f:nav_roll,nav_pitch,alt_error,aspd_error,xtrack_error h:nav_bearing,target_bearing
  H:wp_dist
65 RC_CHANNELS 118 I:time_boot_ms
  H:chan1_raw=65535,chan2_raw=65535,chan3_raw=65535,chan4_raw=65535,chan5_raw=65535,chan6_raw=65535
  H:chan7_raw=65535,chan8_raw=65535,chan9_raw=65535,chan10_raw=65535,chan11_raw=65535
  H:chan12_raw=65535,chan13_raw=65535,chan14_raw=65535,chan15_raw=65535,chan16_raw=65535
  H:chan17_raw=65535,chan18_raw=65535 B:chancount,rssi=255
69 MANUAL_CONTROL 243 h:x=32767,y=32767,z=32767,r=32767 H:buttons B:target + H:buttons2 B:enabled_extensions
  h:s,t,aux1,aux2,aux3,aux4,aux5,aux6
74 VFR_HUD 20 f:airspeed,groundspeed,alt,climb h:heading H:throttle
75 COMMAND_INT 158 f:param1,param2,param3,param4 i:x=2147483647,y=2147483647 f:z H:command
  B:target_system,target_component,frame,current,autocontinue
76 COMMAND_LONG 152 f:param1,param2,param3,param4,param5,param6,param7 H:command
  B:target_system,target_component,confirmation
77 COMMAND_ACK 143 H:command B:result + B:progress=255 i:result_param2 B:target_system,target_component
105 HIGHRES_IMU 93 Q:time_usec
  f:xacc,yacc,zacc,xgyro,ygyro,zgyro,xmag,ymag,zmag,abs_pressure,diff_pressure,pressure_alt,temperature
  H:fields_updated + B:id
109 RADIO_STATUS 185 H:rxerrors,fixed B:rssi=255,remrssi=255,txbuf,noise=255,remnoise=255
116 SCALED_IMU2 76 I:time_boot_ms h:xacc,yacc,zacc,xgyro,ygyro,zgyro,xmag,ymag,zmag + h:temperature
124 GPS2_RAW 87 Q:time_usec i:lat,lon,alt I:dgps_age H:eph=65535,epv=65535,vel=65535,cog=65535
  B:fix_type,satellites_visible=255,dgps_numch + H:yaw i:alt_ellipsoid I:h_acc,v_acc,vel_acc,hdg_acc
125 POWER_STATUS 203 H:Vcc,Vservo,flags
132 DISTANCE_SENSOR 85 I:time_boot_ms H:min_distance,max_distance,current_distance
  B:type,id,orientation,covariance=255 + f:horizontal_fov,vertical_fov 4f:quaternion B:signal_quality
141 ALTITUDE 47 Q:time_usec
  f:altitude_monotonic,altitude_amsl,altitude_local,altitude_relative,altitude_terrain,bottom_clearance
147 BATTERY_STATUS 154 i:current_consumed=-1,energy_consumed=-1 h:temperature=32767 10H:voltages=65535
  h:current_battery=-1 B:id,battery_function,type b:battery_remaining=-1 + i:time_remaining B:charge_state
  4H:voltages_ext B:mode I:fault_bitmask
148 AUTOPILOT_VERSION 178 Q:capabilities,uid I:flight_sw_version,middleware_sw_version,os_sw_version,board_version
  H:vendor_id,product_id 8B:flight_custom_version,middleware_custom_version,os_custom_version + 18B:uid2
193 EKF_STATUS_REPORT 71
  f:velocity_variance,pos_horiz_variance,pos_vert_variance,compass_variance,terrain_alt_variance H:flags +
  f:airspeed_variance
168 WIND 1 f:direction,speed,speed_z
173 RANGEFINDER 83 f:distance,voltage
178 AHRS2 47 f:roll,pitch,yaw,altitude i:lat,lng
225 EFI_STATUS 208 f:ecu_index,rpm,fuel_consumed,fuel_flow,engine_load,throttle_position,spark_dwell_time
  f:barometric_pressure,intake_manifold_pressure,intake_manifold_temperature
  f:cylinder_head_temperature,ignition_timing,injection_time,exhaust_gas_temperature,throttle_out
  f:pt_compensation B:health + f:ignition_voltage,fuel_pressure
226 RPM 207 f:rpm1,rpm2
230 ESTIMATOR_STATUS 163 Q:time_usec
  f:vel_ratio,pos_horiz_ratio,pos_vert_ratio,mag_ratio,hagl_ratio,tas_ratio,pos_horiz_accuracy,pos_vert_accuracy
  H:flags
231 WIND_COV 105 Q:time_usec f:wind_x,wind_y,wind_z,var_horiz,var_vert,wind_alt,horiz_accuracy,vert_accuracy
242 HOME_POSITION 104 i:latitude,longitude,altitude f:x,y,z 4f:q f:approach_x,approach_y,approach_z + Q:time_usec
245 EXTENDED_SYS_STATE 130 B:vtol_state,landed_state
246 ADSB_VEHICLE 184 I:ICAO_address i:lat=2147483647,lon=2147483647,altitude=2147483647
  H:heading=65535,hor_velocity=65535 h:ver_velocity=32767 H:flags,squawk B:altitude_type 9s:callsign
  B:emitter_type,tslc
253 STATUSTEXT 83 B:severity 50s:text + H:id B:chunk_seq
11020 AOA_SSA 205 Q:time_usec f:AOA,SSA
11 SET_MODE 89 I:custom_mode B:target_system,base_mode
73 MISSION_ITEM_INT 38 f:param1,param2,param3,param4 i:x,y f:z H:seq,command
  B:target_system,target_component,frame,current,autocontinue + B:mission_type
66 REQUEST_DATA_STREAM 148 H:req_message_rate B:target_system,target_component,req_stream_id,start_stop
"""

_TYPE = re.compile(r"(\d*)([A-Za-z])")


def _fields(words: list[str]) -> Iterator[Field]:
    extension = False
    for word in words:
        if word == "+":
            extension = True
            continue
        type, _, names = word.partition(":")
        match = _TYPE.fullmatch(type)
        assert match is not None, word
        for name in names.split(","):
            name, _, invalid = name.partition("=")
            yield Field(name, match[2], int(match[1] or 0), int(invalid) if invalid else None, extension)


def _messages() -> Iterator[Message]:
    for line in _TABLE.replace("\n  ", " ").strip().splitlines():
        identifier, name, crc_extra, *words = line.split()
        yield Message(int(identifier), name, int(crc_extra), tuple(_fields(words)))


MESSAGES: dict[int, Message] = {message.id: message for message in _messages()}
BY_NAME: dict[str, Message] = {message.name: message for message in MESSAGES.values()}
